/** What the answer to a canary's call says of the credential that the server was started with. */

/** Why the credential does not work; null where it does. `result`: of `tools/call`. */
export function canaryProblem(result: unknown, expect: string | undefined): string | null {
  const { isError, content, structuredContent } = (result ?? {}) as Record<string, unknown>;
  if (isError === true) return 'answers with an error';
  if (expect === undefined) return null;
  const texts = Array.isArray(content)
    ? content.map((part) => (part as { text?: unknown } | null)?.text)
    : [];
  const said = [...texts, structuredContent === undefined ? '' : JSON.stringify(structuredContent)];
  return said.some((text) => typeof text === 'string' && text.includes(expect))
    ? null
    : 'answers without what is expected of it';
}
