// Requests go to the origin of this page, which forwards them to the local HTTP API.
SwaggerUIBundle({
  url: '/openapi.yaml',
  dom_id: '#api',
  deepLinking: true,
  docExpansion: 'list',
  defaultModelsExpandDepth: -1,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  // Loads no badge from another server.
  validatorUrl: null,
});
