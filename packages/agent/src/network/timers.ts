/** A clock that nobody sets, and alarms on it, so that tests can let time pass. */
export interface Timers {
  /** Milliseconds since some moment. */
  now(): number;
  /** Runs `wake` once after that many milliseconds; returns what takes it back. Never keeps the process alive. */
  after(milliseconds: number, wake: () => void): () => void;
}

/** The machine's own. */
export const systemTimers: Timers = {
  now: () => performance.now(),
  after: (milliseconds, wake) => {
    const timer = setTimeout(wake, milliseconds);
    timer.unref();
    return () => clearTimeout(timer);
  },
};
