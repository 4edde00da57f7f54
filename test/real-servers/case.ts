/** What one case brings: a published server, the issuer of its credential, and how to tell which credential answered. */
import type { Client } from '@modelcontextprotocol/client';

/** A server as a client's config would launch it. */
export interface Launch {
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

export interface Case extends AsyncDisposable {
  /** The package, with its version. */
  readonly server: string;
  readonly issuer: string;
  /** Of the server, in policies and at the gate. */
  readonly name: string;
  /** Fields that a person hands in once, under `admin`. */
  readonly admin: Readonly<Record<string, string>>;
  /** The entry, with references. */
  readonly launch: Launch;
  /** The provider of the policy, as YAML in one line; its admin credential is `adminReference`. */
  provider(adminReference: string): string;
  /** The backend of the policy, as YAML in one line. */
  readonly backend: string;
  /** A read-only call that uses the credential: for the check through the server, and as the gate's canary. */
  readonly probe: {
    readonly tool: string;
    readonly arguments: Readonly<Record<string, string>>;
    /** What only a good answer holds: some servers answer a dead key with an ordinary result. */
    readonly expect: string;
  };
  /** One call of a tool. Returns which credential it was answered for; throws on any answer but the right one. */
  call(client: Client, turn: number): Promise<string>;
  /** The same name for a credential read from the backend. */
  identityOf(fields: Readonly<Record<string, string>>): string;
  /** From here on, this credential counts as revoked: whoever uses it now is counted. */
  watch(identity: string): void;
  /** Uses of revoked credentials since they were, as the issuer saw them. */
  usesAfterRevoke(): Promise<number>;
}

/** The text of a tool's answer. Throws where it is an error. */
export async function callForText(
  client: Client,
  name: string,
  args: Readonly<Record<string, unknown>>,
): Promise<string> {
  const result = await client.callTool({ name, arguments: { ...args } });
  const text = result.content.map((part) => (part.type === 'text' ? part.text : '')).join('');
  if (result.isError === true) throw new Error(`${name} answered an error: ${text}`);
  return text;
}
