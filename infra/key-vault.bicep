// The key vault with the service's only secret, SECRET_KEY. App Service reads it with the identity.

param name string
param location string
param tags object
param principalId string
param purgeProtection bool

@secure()
param secretKey string

var secretsUser = '4633458b-17de-408a-b874-0445c86b69e6'

resource vault 'Microsoft.KeyVault/vaults@2025-05-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    tenantId: tenant().tenantId
    sku: {
      family: 'A'
      name: 'standard'
    }
    enableRbacAuthorization: true
    enableSoftDelete: true
    softDeleteRetentionInDays: 7
    enablePurgeProtection: purgeProtection ? true : null // false is not accepted
  }
}

// Made once: another deployment would otherwise end every session, and undo a rotation.
@onlyIfNotExists()
resource secret 'Microsoft.KeyVault/vaults/secrets@2025-05-01' = {
  parent: vault
  name: 'SECRET-KEY'
  properties: {
    value: secretKey
  }
}

resource access 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: vault
  name: guid(vault.id, principalId, secretsUser)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', secretsUser)
  }
}

// Without a version, so that App Service takes up a new one.
output keyUri string = '${vault.properties.vaultUri}secrets/SECRET-KEY'
