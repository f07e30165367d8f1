/** The host's file system, below a directory of its own in tests. */
export interface HostRoot {
  /** Where an absolute path of the host lies. */
  at(hostPath: string): string;
}

/** The host itself. */
export const THIS_HOST: HostRoot = { at: (path) => path };
