/**
 * How long this thread computed for some work, in milliseconds. Not how long that took: another process may have had
 * the machine meanwhile.
 */
export async function cpuMsOf(work: () => unknown): Promise<number> {
  const before = process.threadCpuUsage();
  await work();
  const { user, system } = process.threadCpuUsage(before);
  return (user + system) / 1_000;
}
