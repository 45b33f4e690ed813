// Calls go where the page comes from, and from there to the local stack.
SwaggerUIBundle({
  url: '/openapi.yaml',
  dom_id: '#api',
  deepLinking: true,
  docExpansion: 'list',
  defaultModelsExpandDepth: -1,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  // No badge from elsewhere.
  validatorUrl: null,
});
