import { printable } from '@virt-trust/cli/output.ts';

/** Where steps are shown: standard output, or what stands for it in a test. */
export interface Screen {
  readonly isTTY: boolean | undefined;
  readonly columns: number | undefined;
  write(text: string): unknown;
}

/** What the work of a step can say about itself. */
export interface StepNotes {
  /** What is being done now: shown on a terminal only, and only until the step is over. */
  progress(text: string): void;
  /** What came of it, kept behind the step. */
  conclude(text: string): void;
}

interface Running {
  readonly label: string;
  progress: string;
}

const REDRAW_MS = 250;

/** Prints steps as they end, with their time; on a terminal the one under way is redrawn below them. */
export class Steps {
  readonly #screen: Screen;
  readonly #now: () => number;
  #running: Running | undefined;
  #drawn = false;
  #indent = '';
  #taken = 0;

  constructor(screen: Screen = process.stdout, now: () => number = () => performance.now()) {
    this.#screen = screen;
    this.#now = now;
  }

  /** How many steps ended well. */
  get taken(): number {
    return this.#taken;
  }

  /** A line of its own between steps. */
  line(text = ''): void {
    this.#erase();
    this.#screen.write(`${printable(`${this.#indent}${text}`).trimEnd()}\n`);
  }

  /** Does a step and prints how it ended; what it throws is thrown on, an abort of `signal` is no failure of it. */
  async run<Value>(
    name: string,
    work: (notes: StepNotes) => Promise<Value>,
    signal?: AbortSignal,
  ): Promise<Value> {
    const began = this.#now();
    const running: Running = { label: name, progress: '' };
    let conclusion = '';
    this.#running = running;
    const redraw = setInterval(() => this.#draw(began), REDRAW_MS);
    redraw.unref();
    this.#draw(began);
    const end = (mark: string, detail: string) => {
      clearInterval(redraw);
      this.#running = undefined;
      this.ended(mark, name, this.#now() - began, detail);
    };
    try {
      const value = await work({
        progress: (text) => {
          running.progress = text;
          this.#draw(began);
        },
        conclude: (text) => {
          conclusion = text;
        },
      });
      end('✔', conclusion);
      return value;
    } catch (error) {
      if (signal?.aborted === true) end('–', 'stopped');
      else end('✖', '');
      throw error;
    }
  }

  /** Does work whose steps are others' (a job's, say), indented under a heading. */
  async under<Value>(heading: string, work: () => Promise<Value>): Promise<Value> {
    this.line();
    this.line(heading);
    this.#indent = '  ';
    try {
      return await work();
    } finally {
      this.#erase();
      this.#running = undefined;
      this.#indent = '';
    }
  }

  /** A step that somebody else took. */
  ended(mark: string, name: string, milliseconds: number, detail: string): void {
    if (mark === '✔') this.#taken += 1;
    const time = `(${(milliseconds / 1000).toFixed(1)} s)`;
    this.line(`${mark} ${name} ${time}${detail === '' ? '' : ` - ${detail}`}`);
  }

  /** What somebody else is doing: shown on a terminal only. */
  underWay(name: string, progress: string): void {
    this.#running = { label: name, progress };
    this.#draw(undefined);
  }

  #draw(began: number | undefined): void {
    if (this.#screen.isTTY !== true || this.#running === undefined) return;
    const { label, progress } = this.#running;
    const time = began === undefined ? '' : ` (${((this.#now() - began) / 1000).toFixed(0)} s)`;
    const text = printable(`${this.#indent}… ${label}${time}${progress === '' ? '' : ` - ${progress}`}`);
    this.#erase();
    // One column stays free: a full line would wrap and could not be taken back.
    this.#screen.write(text.replaceAll('\n', ' ').slice(0, (this.#screen.columns ?? 80) - 1));
    this.#drawn = true;
  }

  #erase(): void {
    if (this.#drawn) this.#screen.write('\r\u001b[K');
    this.#drawn = false;
  }
}
