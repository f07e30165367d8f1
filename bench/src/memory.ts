/** What a process holds, in MB of 10^6 bytes. */
export interface Memory {
  readonly anonymous: number;
  readonly resident: number;
}

/** Reads proc_pid_status(5). */
export function memoryOf(status: string): Memory {
  const field = (name: string) =>
    (Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1]) * 1024) / 1e6;
  return { anonymous: field('RssAnon'), resident: field('VmRSS') };
}
