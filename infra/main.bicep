// Everything but the app registration and the identity, which are in entra.bicep and come first.

targetScope = 'subscription'

@description('Part of the name of the resource group, rg-<environmentName>.')
@minLength(1)
@maxLength(60)
param environmentName string

@description('Region of everything but Communication Services, which is global.')
param location string

@description('Client id of the app registration (ENTRA_CLIENT_ID of entra.bicep).')
@minLength(36)
@maxLength(36)
param entraClientId string

@description('Resource id of the user-assigned identity (IDENTITY_RESOURCE_ID of entra.bicep).')
@minLength(1)
param identityId string

@description('Origin that browsers use, such as https://calls.contoso.com. Empty: the address that App Service gives the app.')
param publicUrl string = ''

@description('Resource id of a Communication Services resource, in any resource group. Empty: a new one, which not every customer may create.')
param existingCommunicationServicesId string = ''

@description('Where a new Communication Services resource keeps its data. Cannot be changed.')
param communicationDataLocation string = 'Europe'

@description('More than one needs Redis, which is then created.')
@minValue(1)
param instances int = 1

@description('Pricing tier of the App Service plan; at least Basic, for always on.')
param planSku string = 'P0v3'

@description('Replication of the tables. Standard_LRS where the region has no availability zones.')
param storageSku string = 'Standard_ZRS'

param pythonVersion string = '3.13'

@description('True cannot be undone, and keeps the name of a deleted vault in use for seven days.')
param purgeProtection bool = false

@description('Further settings of the service by name, such as CORS_ORIGINS. They win over those below.')
param settings object = {}

@description('Where alerts are sent. Empty: to nobody.')
param alertEmail string = ''

@description('Used only to create the secret; a deployment does not change an existing one.')
@secure()
param secretKey string = '${newGuid()}${newGuid()}'

var token = uniqueString(subscription().id, environmentName, location)
var tags = { 'azd-env-name': environmentName }
var groupName = 'rg-${environmentName}'
var origin = empty(publicUrl) ? 'https://app-${token}.azurewebsites.net' : publicUrl
var communicationId = empty(existingCommunicationServicesId)
  ? '${subscription().id}/resourceGroups/${groupName}/providers/Microsoft.Communication/communicationServices/acs-${token}'
  : existingCommunicationServicesId
// /subscriptions/<2>/resourceGroups/<4>/providers/<6>/<7>/<8>
var communicationPath = split(communicationId, '/')
var identityPath = split(identityId, '/')

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' existing = {
  scope: resourceGroup(identityPath[2], identityPath[4])
  name: identityPath[8]
}

resource group 'Microsoft.Resources/resourceGroups@2025-04-01' = {
  name: groupName
  location: location
  tags: tags
}

module storage 'storage.bicep' = {
  scope: group
  params: {
    name: 'st${token}'
    location: location
    tags: tags
    sku: storageSku
    principalId: identity.properties.principalId
  }
}

module communication 'communication.bicep' = if (empty(existingCommunicationServicesId)) {
  scope: group
  params: {
    name: communicationPath[8]
    tags: tags
    dataLocation: communicationDataLocation
  }
}

module communicationAccess 'communication-access.bicep' = {
  scope: resourceGroup(communicationPath[2], communicationPath[4])
  params: {
    name: communicationPath[8]
    principalId: identity.properties.principalId
  }
  dependsOn: [communication]
}

module keyVault 'key-vault.bicep' = {
  scope: group
  params: {
    name: 'kv-${token}'
    location: location
    tags: tags
    principalId: identity.properties.principalId
    purgeProtection: purgeProtection
    secretKey: secretKey
  }
}

module redis 'redis.bicep' = if (instances > 1) {
  scope: group
  params: {
    name: 'redis-${token}'
    location: location
    tags: tags
    principalId: identity.properties.principalId
  }
}

module monitoring 'monitoring.bicep' = {
  scope: group
  params: {
    token: token
    location: location
    tags: tags
  }
}

module alerts 'alerts.bicep' = {
  scope: group
  params: {
    applicationInsightsId: monitoring.outputs.applicationInsightsId
    location: location
    tags: tags
    actionEmail: alertEmail
  }
}

module web 'web.bicep' = {
  scope: group
  params: {
    token: token
    location: location
    tags: tags
    sku: planSku
    instances: instances
    pythonVersion: pythonVersion
    identityId: identityId
    workspaceId: monitoring.outputs.workspaceId
    settings: union(
      {
        PUBLIC_URL: origin
        SECRET_KEY: '@Microsoft.KeyVault(SecretUri=${keyVault.outputs.keyUri})'
        ENTRA_AUTHORITY: '${environment().authentication.loginEndpoint}${tenant().tenantId}'
        ENTRA_CLIENT_ID: entraClientId
        ENTRA_MANAGED_IDENTITY_CLIENT_ID: identity.properties.clientId
        COMMUNICATION_SERVICES_ENDPOINT: communicationAccess.outputs.endpoint
        TABLE_STORAGE_ENDPOINT: storage.outputs.endpoint
        RATE_LIMIT_STORAGE_URI: instances > 1 ? redis!.outputs.rateLimitStorageUri : 'memory://'
        APPLICATIONINSIGHTS_CONNECTION_STRING: monitoring.outputs.connectionString
      },
      settings
    )
  }
}

output AZURE_RESOURCE_GROUP string = group.name
output SERVICE_WEB_URI string = origin
