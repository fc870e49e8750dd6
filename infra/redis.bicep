// Azure Managed Redis, which counts rate limits for all instances. It takes tokens of Entra ID and no access keys.

param name string
param location string
param tags object
param principalId string

resource cluster 'Microsoft.Cache/redisEnterprise@2025-07-01' = {
  name: name
  location: location
  tags: tags
  sku: {
    name: 'Balanced_B0'
  }
  properties: {
    minimumTlsVersion: '1.2'
    publicNetworkAccess: 'Enabled'
    // Half the price. Without Redis, each process counts for itself, and no count outlives a day.
    highAvailability: 'Disabled'
  }
}

resource database 'Microsoft.Cache/redisEnterprise/databases@2025-07-01' = {
  parent: cluster
  name: 'default'
  properties: {
    clientProtocol: 'Encrypted'
    port: 10000
    clusteringPolicy: 'EnterpriseCluster' // one address; a plain client does not follow the redirections of the other
    evictionPolicy: 'VolatileLRU'
    accessKeysAuthentication: 'Disabled'
  }
}

resource access 'Microsoft.Cache/redisEnterprise/databases/accessPolicyAssignments@2025-07-01' = {
  parent: database
  name: 'app'
  properties: {
    accessPolicyName: 'default'
    user: {
      objectId: principalId
    }
  }
}

// A user name without a password: the service sends a token of its managed identity.
output rateLimitStorageUri string = 'rediss://${principalId}@${cluster.properties.hostName}:${database.properties.port}'
