/** Who issues the keys that MCP servers use, as data: where a person makes a new one, what tries it, what goes together. */

export interface Issuer {
  readonly id: string;
  /** For people. */
  readonly title: string;
  /** Names of variables, in upper snake case; matched whole. */
  readonly names: readonly string[];
  /** Beginnings of its keys. */
  readonly prefixes: readonly string[];
  /** Its hosts; a name below one counts as well. */
  readonly hosts: readonly string[];
  readonly link: string | null;
  readonly instructions: string;
  /** A GET that only a working key gets through: `${value}` is the key. */
  readonly verify: {
    readonly url: string;
    readonly headers: Readonly<Record<string, string>>;
  } | null;
  /** Its keys work only together: they are swapped as one. */
  readonly together: boolean;
  /** What would make it automatic; null where nothing in this version does. */
  readonly hint: string | null;
}

const bearer = { Authorization: 'Bearer ${value}' };

interface Row extends Partial<Omit<Issuer, 'id' | 'title'>> {
  readonly id: string;
  readonly title: string;
}

/** Links and checks as the issuers document them. */
const rows: readonly Row[] = [
  {
    id: 'github',
    title: 'GitHub',
    names: ['GITHUB_PERSONAL_ACCESS_TOKEN', 'GITHUB_TOKEN', 'GH_TOKEN', 'GITHUB_PAT'],
    prefixes: ['ghp_', 'github_pat_', 'gho_'],
    hosts: ['githubcopilot.com', 'github.com'],
    link: 'https://github.com/settings/personal-access-tokens',
    instructions: 'Make a personal access token with the rights of the present one.',
    verify: { url: 'https://api.github.com/user', headers: bearer },
  },
  {
    id: 'gitlab',
    title: 'GitLab',
    names: ['GITLAB_PERSONAL_ACCESS_TOKEN', 'GITLAB_TOKEN'],
    prefixes: ['glpat-'],
    hosts: ['gitlab.com'],
    link: 'https://gitlab.com/-/user_settings/personal_access_tokens',
    instructions: 'Make a personal access token with the scopes of the present one.',
  },
  {
    id: 'openai',
    title: 'OpenAI',
    names: ['OPENAI_API_KEY'],
    prefixes: ['sk-proj-', 'sk-svcacct-'],
    hosts: ['openai.com'],
    link: 'https://platform.openai.com/api-keys',
    instructions: 'Make a secret key in the project of the present one.',
    verify: { url: 'https://api.openai.com/v1/models', headers: bearer },
  },
  {
    id: 'anthropic',
    title: 'Anthropic',
    names: ['ANTHROPIC_API_KEY', 'CLAUDE_API_KEY'],
    prefixes: ['sk-ant-'],
    hosts: ['anthropic.com'],
    link: 'https://console.anthropic.com/settings/keys',
    instructions: 'Make a key in the workspace of the present one.',
    verify: {
      url: 'https://api.anthropic.com/v1/models',
      headers: { 'x-api-key': '${value}', 'anthropic-version': '2023-06-01' },
    },
  },
  {
    id: 'notion',
    title: 'Notion',
    names: ['NOTION_TOKEN', 'NOTION_API_KEY', 'NOTION_API_TOKEN', 'OPENAPI_MCP_HEADERS'],
    prefixes: ['ntn_'],
    hosts: ['notion.com', 'notion.so'],
    link: 'https://www.notion.so/profile/integrations',
    instructions:
      'Make an internal integration with the capabilities of the present one, and connect it to the same pages.',
    verify: {
      url: 'https://api.notion.com/v1/users/me',
      headers: { ...bearer, 'Notion-Version': '2022-06-28' },
    },
  },
  {
    id: 'linear',
    title: 'Linear',
    names: ['LINEAR_API_KEY', 'LINEAR_ACCESS_TOKEN'],
    prefixes: ['lin_api_'],
    hosts: ['linear.app'],
    link: 'https://linear.app/settings/account/security',
    instructions: 'Make a personal API key.',
  },
  {
    id: 'slack',
    title: 'Slack',
    names: ['SLACK_BOT_TOKEN', 'SLACK_MCP_XOXP_TOKEN', 'SLACK_MCP_XOXB_TOKEN', 'SLACK_USER_TOKEN'],
    prefixes: ['xoxb-', 'xoxp-', 'xapp-'],
    hosts: ['slack.com'],
    link: 'https://api.slack.com/apps',
    instructions: 'Open the app, OAuth & Permissions, and install it again for a new token.',
  },
  {
    id: 'brave',
    title: 'Brave Search',
    names: ['BRAVE_API_KEY', 'BRAVE_SEARCH_API_KEY'],
    prefixes: ['BSA'],
    hosts: ['search.brave.com'],
    link: 'https://api-dashboard.search.brave.com/app/keys',
    instructions: 'Make an API key of the same plan.',
  },
  {
    id: 'firecrawl',
    title: 'Firecrawl',
    names: ['FIRECRAWL_API_KEY'],
    prefixes: ['fc-'],
    hosts: ['firecrawl.dev'],
    link: 'https://www.firecrawl.dev/app/api-keys',
    instructions: 'Make an API key.',
    verify: { url: 'https://api.firecrawl.dev/v2/team/credit-usage', headers: bearer },
  },
  {
    id: 'tavily',
    title: 'Tavily',
    names: ['TAVILY_API_KEY'],
    prefixes: ['tvly-'],
    hosts: ['tavily.com'],
    link: 'https://app.tavily.com/home',
    instructions: 'Make an API key.',
  },
  {
    id: 'exa',
    title: 'Exa',
    names: ['EXA_API_KEY'],
    hosts: ['exa.ai'],
    link: 'https://dashboard.exa.ai/api-keys',
    instructions: 'Make an API key.',
  },
  {
    id: 'scavio',
    title: 'Scavio',
    names: ['SCAVIO_API_KEY'],
    hosts: ['scavio.dev'],
    instructions: 'Make an API key in the dashboard.',
  },
  {
    id: 'perplexity',
    title: 'Perplexity',
    names: ['PERPLEXITY_API_KEY'],
    prefixes: ['pplx-'],
    hosts: ['perplexity.ai'],
    link: 'https://www.perplexity.ai/account/api/keys',
    instructions: 'Make an API key.',
  },
  {
    id: 'context7',
    title: 'Context7',
    names: ['CONTEXT7_API_KEY'],
    prefixes: ['ctx7sk-'],
    hosts: ['context7.com'],
    link: 'https://context7.com/dashboard',
    instructions: 'Make an API key.',
  },
  {
    id: 'sentry',
    title: 'Sentry',
    names: ['SENTRY_AUTH_TOKEN', 'SENTRY_ACCESS_TOKEN'],
    prefixes: ['sntrys_', 'sntryu_'],
    hosts: ['sentry.io', 'sentry.dev'],
    link: 'https://sentry.io/settings/account/api/auth-tokens/',
    instructions: 'Make a token with the scopes of the present one.',
    verify: { url: 'https://sentry.io/api/0/', headers: bearer },
  },
  {
    id: 'datadog',
    title: 'Datadog',
    names: ['DATADOG_API_KEY', 'DATADOG_APP_KEY', 'DD_API_KEY', 'DD_APP_KEY'],
    hosts: ['datadoghq.com', 'datadoghq.eu'],
    link: 'https://app.datadoghq.com/organization-settings/api-keys',
    instructions: 'Make an API key and an application key: the server needs both.',
    together: true,
  },
  {
    id: 'aws',
    title: 'AWS',
    names: ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_SESSION_TOKEN'],
    prefixes: ['AKIA'],
    link: 'https://console.aws.amazon.com/iam/home#/security_credentials',
    instructions: 'Make an access key for the same user: hand in both its id and its secret.',
    together: true,
  },
  {
    id: 'cloudflare',
    title: 'Cloudflare',
    names: ['CLOUDFLARE_API_TOKEN'],
    prefixes: ['cfut_', 'cfat_'],
    hosts: ['cloudflare.com'],
    link: 'https://dash.cloudflare.com/profile/api-tokens',
    instructions: 'Make a token with the permissions of the present one.',
    verify: { url: 'https://api.cloudflare.com/client/v4/user/tokens/verify', headers: bearer },
  },
  {
    id: 'supabase',
    title: 'Supabase',
    names: ['SUPABASE_ACCESS_TOKEN'],
    prefixes: ['sbp_'],
    hosts: ['supabase.com'],
    link: 'https://supabase.com/dashboard/account/tokens',
    instructions: 'Generate an access token.',
    verify: { url: 'https://api.supabase.com/v1/projects', headers: bearer },
  },
  {
    id: 'circleci',
    title: 'CircleCI',
    names: ['CIRCLECI_TOKEN'],
    prefixes: ['CCIPAT_'],
    hosts: ['circleci.com'],
    link: 'https://app.circleci.com/settings/user/tokens',
    instructions: 'Make a personal API token.',
    verify: {
      url: 'https://circleci.com/api/v2/me',
      headers: { 'Circle-Token': '${value}' },
    },
  },
  {
    id: 'figma',
    title: 'Figma',
    names: ['FIGMA_API_KEY', 'FIGMA_ACCESS_TOKEN'],
    prefixes: ['figd_'],
    hosts: ['figma.com'],
    link: 'https://www.figma.com/settings',
    instructions: 'Open Security, make a personal access token.',
    verify: {
      url: 'https://api.figma.com/v1/me',
      headers: { 'X-Figma-Token': '${value}' },
    },
  },
  {
    id: 'atlassian',
    title: 'Atlassian',
    names: ['ATLASSIAN_API_TOKEN', 'JIRA_API_TOKEN', 'CONFLUENCE_API_TOKEN'],
    prefixes: ['ATATT'],
    hosts: ['atlassian.net', 'atlassian.com'],
    link: 'https://id.atlassian.com/manage-profile/security/api-tokens',
    instructions: 'Make an API token.',
  },
  {
    id: 'stripe',
    title: 'Stripe',
    names: ['STRIPE_SECRET_KEY', 'STRIPE_API_KEY'],
    prefixes: ['sk_live_', 'sk_test_', 'rk_live_', 'rk_test_'],
    hosts: ['stripe.com'],
    link: 'https://dashboard.stripe.com/apikeys',
    instructions: 'Make a restricted key with the rights of the present one.',
    verify: { url: 'https://api.stripe.com/v1/balance', headers: bearer },
  },
  {
    id: 'huggingface',
    title: 'Hugging Face',
    names: ['HF_TOKEN', 'HUGGINGFACE_API_KEY', 'HUGGING_FACE_HUB_TOKEN'],
    prefixes: ['hf_'],
    hosts: ['huggingface.co', 'hf.co'],
    link: 'https://huggingface.co/settings/tokens',
    instructions: 'Make a token with the rights of the present one.',
    verify: { url: 'https://huggingface.co/api/whoami-v2', headers: bearer },
  },
  {
    id: 'postgres',
    title: 'PostgreSQL',
    names: ['PGPASSWORD', 'POSTGRES_PASSWORD'],
    instructions: 'Give the login a new password: ALTER ROLE … PASSWORD, as its administrator.',
    hint: 'an admin credential and two logins in one group role (provider postgres)',
  },
  {
    id: 'redis',
    title: 'Redis',
    names: ['REDIS_PASSWORD', 'REDIS_PWD'],
    instructions: 'Add a password to the user: ACL SETUSER … >NEW, as its administrator.',
    hint: 'an admin credential (provider redis)',
  },
];

export const issuers: readonly Issuer[] = rows.map((row) => ({
  names: [],
  prefixes: [],
  hosts: [],
  link: null,
  instructions: '',
  verify: null,
  together: false,
  hint: null,
  ...row,
}));

/** By the beginning of the key itself. */
export function issuerByForm(value: string): Issuer | null {
  return issuers.find(({ prefixes }) => prefixes.some((one) => value.startsWith(one))) ?? null;
}

/** By what it is called, or by the URL that it stands in or goes to. */
export function issuerByPlace(name: string, url: string | null): Issuer | null {
  const byName = issuers.find(({ names }) => names.includes(name));
  if (byName !== undefined) return byName;
  const parsed = url === null ? null : URL.parse(url);
  if (parsed === null) return null;
  const { hostname, protocol } = parsed;
  if (/^postgres(ql)?:$/.test(protocol)) return byId('postgres');
  if (/^rediss?:$/.test(protocol)) return byId('redis');
  const isBelow = (host: string) => hostname === host || hostname.endsWith(`.${host}`);
  return issuers.find(({ hosts }) => hosts.some(isBelow)) ?? null;
}

function byId(id: string): Issuer | null {
  return issuers.find((issuer) => issuer.id === id) ?? null;
}
