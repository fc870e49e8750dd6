// The App Service plan and the web app with its settings.

param token string
param location string
param tags object
param sku string
param instances int
param pythonVersion string
param identityId string
param workspaceId string

@description('The settings of this environment, by name; they win over those below.')
param settings object

resource plan 'Microsoft.Web/serverfarms@2024-11-01' = {
  name: 'plan-${token}'
  location: location
  tags: tags
  kind: 'linux'
  sku: {
    name: sku
    capacity: instances
  }
  properties: {
    reserved: true // Linux
  }
}

resource app 'Microsoft.Web/sites@2024-11-01' = {
  name: 'app-${token}'
  location: location
  tags: union(tags, { 'azd-service-name': 'web' })
  kind: 'app,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identityId}': {}
    }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    clientAffinityEnabled: false
    keyVaultReferenceIdentity: identityId
    siteConfig: {
      linuxFxVersion: 'PYTHON|${pythonVersion}'
      appCommandLine: 'exec gunicorn -c gunicorn.conf.py wsgi:app'
      healthCheckPath: '/healthz'
      alwaysOn: true
      http20Enabled: true
      minTlsVersion: '1.2'
      scmMinTlsVersion: '1.2'
      ftpsState: 'Disabled'
    }
  }
}

resource ftp 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-11-01' = {
  parent: app
  name: 'ftp'
  properties: {
    allow: false
  }
}

resource scm 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-11-01' = {
  parent: app
  name: 'scm'
  properties: {
    allow: false
  }
}

resource appSettings 'Microsoft.Web/sites/config@2024-11-01' = {
  parent: app
  name: 'appsettings'
  properties: union(
    {
      TABLE_STORAGE_CREATE_TABLES: 'false'
      TRUSTED_PROXY_HOPS: '1'
      SCM_DO_BUILD_DURING_DEPLOYMENT: 'true'
      // Any response ends the warm-up, a 503 too: an upstream's outage must not keep an instance from starting.
      WEBSITE_WARMUP_PATH: '/readyz'
      // Longer than gunicorn's graceful_timeout, so that requests under way can finish.
      WEBSITES_CONTAINER_STOP_TIME_LIMIT: '40'
    },
    settings
  )
}

// No AppServiceHTTPLogs: they hold query strings, and so authorization codes. No AppServiceConsoleLogs: they hold
// addresses and reasons of blocks, which telemetry leaves out.
resource logs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: app
  name: 'logs'
  properties: {
    workspaceId: workspaceId
    logs: [
      {
        category: 'AppServicePlatformLogs'
        enabled: true
      }
    ]
  }
}
