// The identity's role on a Communication Services resource, new or existing, deployed to that resource's group. No
// narrower built-in role issues tokens.

param name string
param principalId string

var communicationServiceOwner = '09976791-48a7-449e-bb21-39d1a415f350'

resource service 'Microsoft.Communication/communicationServices@2025-05-01' existing = {
  name: name
}

resource access 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: service
  name: guid(service.id, principalId, communicationServiceOwner)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', communicationServiceOwner)
  }
}

output endpoint string = 'https://${service.properties.hostName}'
