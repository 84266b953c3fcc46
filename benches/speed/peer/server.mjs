// oidc-provider as its documentation starts it, with the device flow: what a session of ours is compared with.
import Provider from 'oidc-provider';

const provider = new Provider('http://localhost', {
  clients: [
    {
      client_id: 'bench',
      token_endpoint_auth_method: 'none',
      grant_types: ['urn:ietf:params:oauth:grant-type:device_code'],
      redirect_uris: [],
      response_types: [],
    },
  ],
  features: { deviceFlow: { enabled: true }, devInteractions: { enabled: false } },
});
const server = provider.listen(0, '127.0.0.1', () => {
  console.log(`peer 127.0.0.1:${server.address().port}`);
});
