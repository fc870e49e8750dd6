// The alerts of docs/operate.md, and a workbook. alerts.json has their queries, which tests run on real telemetry.

@description('The Application Insights component that the service sends its telemetry to.')
param applicationInsightsId string
param location string = resourceGroup().location
param tags object = {}
@description('Who gets an e-mail when an alert fires. Empty: nobody, and alerts are only in the portal.')
param actionEmail string = ''

var alerts = loadJsonContent('alerts.json')

resource recipients 'Microsoft.Insights/actionGroups@2023-01-01' = if (!empty(actionEmail)) {
  name: 'trusted-service-operators'
  location: 'global'
  tags: tags
  properties: {
    enabled: true
    groupShortName: 'trusted'
    emailReceivers: [
      {
        name: 'operators'
        emailAddress: actionEmail
        useCommonAlertSchema: true
      }
    ]
  }
}

resource rules 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = [
  for alert in alerts: {
    name: 'trusted-service-${alert.name}'
    location: location
    tags: tags
    kind: 'LogAlert'
    properties: {
      displayName: alert.title
      description: '${alert.description} What to do: docs/operate.md#alert-${alert.name}'
      enabled: true
      severity: alert.severity
      scopes: [
        applicationInsightsId
      ]
      evaluationFrequency: alert.frequency
      windowSize: alert.window
      autoMitigate: true
      criteria: {
        allOf: [
          {
            // Each query returns a row where there is something to report, and none otherwise.
            query: join(alert.query, '\n')
            timeAggregation: 'Count'
            operator: 'GreaterThan'
            threshold: 0
            failingPeriods: {
              numberOfEvaluationPeriods: 1
              minFailingPeriodsToAlert: 1
            }
          }
        ]
      }
      actions: {
        actionGroups: empty(actionEmail) ? [] : [
          recipients.id
        ]
      }
    }
  }
]

module workbook 'workbook.bicep' = {
  params: {
    applicationInsightsId: applicationInsightsId
    location: location
    tags: tags
  }
}
