import { constants } from 'node:fs';
import { type FileHandle, open, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '@virt-trust/base/clock.ts';
import { AgentEvent } from '@virt-trust/contract/model/agent-event.ts';
import { validatorOf } from '@virt-trust/contract/validate.ts';
import { syncDirectory } from './atomic-file.ts';

export interface EventBounds {
  readonly eventsPerFile: number;
  readonly files: number;
}

const BOUNDS: EventBounds = { eventsPerFile: 1000, files: 10 };
const FILE_NAME = /^(\d{16})\.jsonl$/;
const NEWLINE = 0x0a;

interface OpenFile {
  readonly first: number;
  readonly handle: FileHandle;
  size: number;
}

/**
 * What happened on the host: a durable sequence without gaps, in files of JSON lines named by their first number.
 * The oldest file goes when there are too many.
 */
export class EventLog {
  readonly #directory: string;
  readonly #clock: Clock;
  readonly #bounds: EventBounds;
  #file: OpenFile | undefined;
  #last: number;
  #turn: Promise<unknown> = Promise.resolve();
  #arrived = Promise.withResolvers<void>();

  private constructor(directory: string, clock: Clock, bounds: EventBounds, last: number) {
    this.#directory = directory;
    this.#clock = clock;
    this.#bounds = bounds;
    this.#last = last;
  }

  /** Opens the log in an existing directory; what a crash left half written at its end is cut off. */
  static async open(directory: string, clock: Clock, bounds: EventBounds = BOUNDS): Promise<EventLog> {
    const first = (await fileNumbers(directory)).at(-1);
    if (first === undefined) return new EventLog(directory, clock, bounds, 0);
    const bytes = await readFile(join(directory, fileName(first)));
    const whole = bytes.lastIndexOf(NEWLINE) + 1;
    const lines = bytes.subarray(0, whole).reduce((count, byte) => count + (byte === NEWLINE ? 1 : 0), 0);
    const log = new EventLog(directory, clock, bounds, first + lines - 1);
    const handle = await open(join(directory, fileName(first)), constants.O_WRONLY | constants.O_NOFOLLOW);
    await handle.truncate(whole);
    log.#file = { first, handle, size: whole };
    return log;
  }

  /** The number of the newest event, zero before the first. */
  get last(): number {
    return this.#last;
  }

  /** Adds an event; it is on the disk when the promise resolves. Control characters in its words become spaces. */
  append(kind: string, subject: string, message: string): Promise<AgentEvent> {
    const work = async () => {
      const event = {
        sequence: this.#last + 1,
        at: this.#clock.now(),
        kind: clean(kind, 100),
        subject: clean(subject, 1000),
        message: clean(message, 8000),
      };
      const file = await this.#fileFor(event.sequence);
      const line = Buffer.from(`${JSON.stringify(validatorOf(AgentEvent)(event, 'event'))}\n`);
      try {
        await file.handle.write(line, 0, line.length, file.size);
        await file.handle.datasync();
      } catch (error) {
        // What a full disk let through of the line must not stand before the next one.
        await file.handle.truncate(file.size).catch(() => {});
        throw error;
      }
      file.size += line.length;
      this.#last = event.sequence;
      this.#arrived.resolve();
      this.#arrived = Promise.withResolvers();
      return event;
    };
    const turn = this.#turn.then(work, work);
    this.#turn = turn.catch(() => {});
    return turn;
  }

  /** The events after a number, oldest first. */
  async list(after: number, limit: number): Promise<{ events: AgentEvent[]; last: number }> {
    const last = this.#last;
    const events: AgentEvent[] = [];
    if (after >= last) return { events, last };
    const numbers = await fileNumbers(this.#directory);
    const begin = Math.max(
      0,
      numbers.findLastIndex((first) => first <= after + 1),
    );
    for (const first of numbers.slice(begin)) {
      if (events.length >= limit) break;
      // Rotated away meanwhile: the oldest events are gone.
      const text = await readFile(join(this.#directory, fileName(first)), 'utf8').catch(() => '');
      for (const line of text.split('\n')) {
        const event = readEvent(line);
        if (event === undefined || event.sequence <= after || event.sequence > last) continue;
        if (events.length < limit) events.push(event);
      }
    }
    return { events, last };
  }

  /** Resolves when there is an event after that number, or the signal is aborted. */
  async waitFor(after: number, signal: AbortSignal): Promise<void> {
    const aborted = new Promise<void>((resolve) =>
      signal.addEventListener('abort', () => resolve(), { once: true }),
    );
    while (this.#last <= after && !signal.aborted) await Promise.race([this.#arrived.promise, aborted]);
  }

  async close(): Promise<void> {
    await this.#turn;
    await this.#file?.handle.close();
    this.#file = undefined;
  }

  async #fileFor(sequence: number): Promise<OpenFile> {
    const current = this.#file;
    if (current !== undefined && sequence - current.first < this.#bounds.eventsPerFile) return current;
    const handle = await open(
      join(this.#directory, fileName(sequence)),
      constants.O_CREAT | constants.O_WRONLY | constants.O_TRUNC | constants.O_NOFOLLOW,
      0o600,
    );
    await syncDirectory(this.#directory);
    await current?.handle.close();
    const file: OpenFile = { first: sequence, handle, size: 0 };
    this.#file = file;
    const numbers = await fileNumbers(this.#directory);
    for (const old of numbers.slice(0, Math.max(0, numbers.length - this.#bounds.files)))
      await rm(join(this.#directory, fileName(old)), { force: true });
    return file;
  }
}

/** A line that the disk damaged is passed over; its number stays used. */
function readEvent(line: string): AgentEvent | undefined {
  if (line === '') return undefined;
  try {
    return validatorOf(AgentEvent)(JSON.parse(line), 'event');
  } catch {
    return undefined;
  }
}

function clean(text: string, length: number): string {
  return [...text]
    .slice(0, length)
    .map((character) => (character < ' ' || character === '\u007f' ? ' ' : character))
    .join('')
    .slice(0, length)
    .toWellFormed();
}

function fileName(first: number): string {
  return `${String(first).padStart(16, '0')}.jsonl`;
}

async function fileNumbers(directory: string): Promise<number[]> {
  return (await readdir(directory))
    .map((name) => Number(FILE_NAME.exec(name)?.[1]))
    .filter(Number.isSafeInteger)
    .sort((a, b) => a - b);
}
