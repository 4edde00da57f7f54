/** Types of the launcher, for its test. */
export const oldestNode: readonly [major: number, minor: number];
export function start(program: 'rotate' | 'rotated'): void;
