/** The few statistics that the benchmarks print, and how a figure is held against its budget. */

export interface Budget {
  readonly name: string;
  /** As in the design: `<= 1.3`. */
  readonly limit: string;
  readonly value: number;
  readonly met: boolean;
}

export function median(values: readonly number[]): number {
  return percentile(values, 0.5);
}

/** `share` from 0 to 1; the nearest rank, so that it is a value that was measured. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const rank = Math.ceil(share * sorted.length) - 1;
  const value = sorted[Math.min(sorted.length - 1, Math.max(0, rank))];
  if (value === undefined) throw new Error('Nothing was measured.');
  return value;
}

export function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

export function rounded(value: number, digits = 1): number {
  return Number(value.toFixed(digits));
}

export function atMost(name: string, limit: number, value: number): Budget {
  return { name, limit: `<= ${limit}`, value, met: value <= limit };
}

export function atLeast(name: string, limit: number, value: number): Budget {
  return { name, limit: `>= ${limit}`, value, met: value >= limit };
}

export function budgetText({ name, limit, value, met }: Budget): string {
  return `  ${met ? 'met   ' : 'MISSED'} ${name}: ${value} (${limit})`;
}
