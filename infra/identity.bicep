// The app's only identity: how it authenticates to Entra ID, Table Storage, Communication Services, Key Vault and Redis.

param name string
param location string

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: name
  location: location
}

output id string = identity.id
output principalId string = identity.properties.principalId
