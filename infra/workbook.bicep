// The workbook "Trusted service": what the service does, and how its upstreams respond.

@description('The Application Insights component that the service sends its telemetry to.')
param applicationInsightsId string
param location string = resourceGroup().location
param tags object = {}

resource workbook 'Microsoft.Insights/workbooks@2023-06-01' = {
  name: guid(applicationInsightsId, 'trusted-service')
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    displayName: 'Trusted service'
    category: 'workbook'
    sourceId: applicationInsightsId
    serializedData: loadTextContent('workbook.json')
  }
}
