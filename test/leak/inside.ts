export async function driveInside(_: unknown): Promise<void> {}
