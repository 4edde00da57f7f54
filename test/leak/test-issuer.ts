/** The test issuer under the name that a policy can load it by. */
export { testIssuer as default } from '../support/issuer/provider.ts';
