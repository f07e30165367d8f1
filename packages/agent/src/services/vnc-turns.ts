const last = new Map<number, Promise<unknown>>();

/**
 * Lets one connection of ours at a time to the VNC server on a port of this host: QEMU listens with a backlog of one, and
 * of clients that come together some never get its greeting [seen with QEMU 7.2].
 */
export async function inTurnAtVnc<Outcome>(port: number, visit: () => Promise<Outcome>): Promise<Outcome> {
  const turn = (last.get(port) ?? Promise.resolve()).then(visit, visit);
  last.set(port, turn);
  try {
    return await turn;
  } finally {
    if (last.get(port) === turn) last.delete(port);
  }
}
