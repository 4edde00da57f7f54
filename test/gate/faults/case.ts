/** One fault: what is done to the gate, and what its client must see of it. */
export interface FaultCase {
  readonly name: string;
  /** Returns the client's outcome in words; throws where it is not what it must be. */
  run(): Promise<string>;
}
