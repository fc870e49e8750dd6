// A new Communication Services resource without access keys. An existing one is used instead
// (existingCommunicationServicesId).

param name string
param tags object
param dataLocation string

resource service 'Microsoft.Communication/communicationServices@2025-05-01' = {
  name: name
  location: 'global'
  tags: tags
  properties: {
    dataLocation: dataLocation
    disableLocalAuth: true
  }
}
