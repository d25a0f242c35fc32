// An oidc-provider for tests: in memory, on loopback, with the login pages that the package brings along.
import { generateKeyPairSync } from "node:crypto";
import Provider from "oidc-provider";

const issuer = `http://127.0.0.1:${process.env.PORT}`;
const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
const key = { ...privateKey.export({ format: "jwk" }), kid: "one", use: "sig", alg: "ES256" };
const audience = "https://agents.acme.example";

const provider = new Provider(issuer, {
  jwks: { keys: [key] },
  clients: [
    {
      client_id: "zt-agents-login",
      application_type: "native",
      token_endpoint_auth_method: "none",
      redirect_uris: ["http://127.0.0.1/callback"],
      grant_types: ["authorization_code", "urn:ietf:params:oauth:grant-type:device_code"],
      response_types: ["code"],
      id_token_signed_response_alg: "ES256",
    },
  ],
  claims: { openid: ["sub"], profile: ["name"], groups: ["groups"] },
  scopes: ["openid", "profile", "groups"],
  conformIdTokenClaims: false,
  enabledJWA: { idTokenSigningAlgValues: ["ES256"], clientAuthSigningAlgValues: ["ES256"] },
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, name: id[0].toUpperCase() + id.slice(1), groups: ["it-helpdesk"] }),
  }),
  clientDefaults: { id_token_signed_response_alg: "ES256" },
  clientAuthMethods: ["none", "private_key_jwt"],
  pkce: { required: () => true },
  features: {
    devInteractions: { enabled: true },
    deviceFlow: { enabled: true },
    clientCredentials: { enabled: true },
    revocation: { enabled: true },
    registration: { enabled: true, initialAccessToken: "initial" },
    registrationManagement: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => undefined,
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({ scope: "openid", audience, accessTokenFormat: "jwt", jwt: { sign: { alg: "ES256" } } }),
    },
  },
});
provider.listen(Number(process.env.PORT), "127.0.0.1");
