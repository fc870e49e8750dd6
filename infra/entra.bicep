// The app registration and the identity that it trusts, deployed before main.bicep. A template of its own: it needs
// permissions in Entra ID, and the compiler downloads the Microsoft Graph extension (bicepconfig.json). The identity has
// its own resource group, because `azd down` cannot delete one that two templates create.

targetScope = 'subscription'

extension microsoftGraphV1

@description('As for main.bicep. Part of the names of the resource group and of the app registration.')
param environmentName string

param location string

@description('As for main.bicep. Empty: the address that App Service gives the app.')
param publicUrl string = ''

var token = uniqueString(subscription().id, environmentName, location)
var origin = empty(publicUrl) ? 'https://app-${token}.azurewebsites.net' : publicUrl
var registrationName = 'trusted-service-${environmentName}'
// May be requested beside the client id, which an app registration cannot contain as it is created.
var identifierUri = 'api://${tenant().tenantId}/${registrationName}'

resource group 'Microsoft.Resources/resourceGroups@2025-04-01' = {
  name: 'rg-${environmentName}-identity'
  location: location
}

module identity 'identity.bicep' = {
  scope: group
  params: {
    name: 'id-${token}'
    location: location
  }
}

resource registration 'Microsoft.Graph/applications@v1.0' = {
  uniqueName: registrationName
  displayName: registrationName
  signInAudience: 'AzureADMyOrg'
  identifierUris: [identifierUri]
  web: {
    redirectUris: [
      '${origin}/auth/callback'
      '${origin}/' // sign-out returns here
    ]
    logoutUrl: '${origin}/auth/front-channel-logout'
  }
  appRoles: [
    {
      id: guid(registrationName, 'TrustedService.Admin')
      value: 'TrustedService.Admin'
      displayName: 'Administrator'
      description: 'Manages users and reads the audit trail.'
      allowedMemberTypes: ['User', 'Application']
      isEnabled: true
    }
  ]
  api: {
    requestedAccessTokenVersion: 2
    oauth2PermissionScopes: [
      {
        id: guid(registrationName, 'access_as_user')
        value: 'access_as_user'
        type: 'User'
        adminConsentDisplayName: 'Get tokens for calls and chats'
        adminConsentDescription: 'Lets an app get tokens for calls and chats on behalf of the signed-in user.'
        userConsentDisplayName: 'Get tokens for your calls and chats'
        userConsentDescription: 'Lets an app get tokens for your calls and chats.'
        isEnabled: true
      }
    ]
  }
  optionalClaims: {
    idToken: [
      { name: 'sid' }
      { name: 'login_hint' }
    ]
  }
}

resource credential 'Microsoft.Graph/applications/federatedIdentityCredentials@v1.0' = {
  name: '${registration.uniqueName}/app-service'
  description: 'The managed identity of the app on App Service'
  issuer: '${environment().authentication.loginEndpoint}${tenant().tenantId}/v2.0'
  subject: identity.outputs.principalId
  audiences: ['api://AzureADTokenExchange']
}

resource servicePrincipal 'Microsoft.Graph/servicePrincipals@v1.0' = {
  appId: registration.appId
}

output ENTRA_CLIENT_ID string = registration.appId
output IDENTITY_RESOURCE_ID string = identity.outputs.id
output API_SCOPE string = '${identifierUri}/access_as_user'
