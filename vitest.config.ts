import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['{src,providers,test}/**/*.test.ts'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // For events, not for time: a busy machine is no failure.
    expect: { poll: { timeout: 45_000, interval: 20 } },
    maxWorkers: 2,
    coverage: { include: ['src/**/*.ts', 'providers/**/*.ts'], exclude: ['**/*.test.ts'] },
  },
});
