/** What a guest of the lab does; addresses are below 3 GiB. */
export interface BootParameters {
  readonly memoryMiB: number;
  /** How much of its memory it writes to, from 1 MiB on. */
  readonly workingSetMiB: number;
  /** A word on each page. */
  readonly dirtyMiBPerSecond: number;
  /** Sectors of the first IDE disk, from the second on, that it writes in turn, one a tick; 0: it has no disk. */
  readonly diskSectors: number;
}

export const SECTOR_BYTES = 512;
const TICKS_PER_SECOND = 20;
/** What PCI leaves to memory below 4 GiB; paging is off. */
const MOST_MEMORY_MIB = 3072;

const PAGES_PER_MIB = 256;
const PARAMETERS_AT = 490;
/** All of a small memory within a second, and never so much that it is felt. */
const TICKS_PER_LOOK = 20;
const MOST_LOOKED_AT_MIB = 16;

/** boot-sector.s as `node lab/src/guest/assemble.ts` assembles it. */
const SECTOR = [
  '+mYxwI7YDwEWrH0PAR7EfUAPAfDqGXwIALAQjtiOwI7QvABwAAD8v0AAAAC4pX0IAKu4AI4AAKuw/+ahSOYhsDTmQ7AL5kCw',
  '6eZA6DIBAABoZWxsbwoAvwAAEACJ+gW5eTeeq/fH/w8AAHXyiVf8Oz3qfQAAcuXoBgEAAGZpbGxlZAoAMe2/AAAQAIn7+/T6',
  'RYsN8n0AAOMX/weBxwAQAAA7Pe59AAByBb8AABAA4umLDfZ9AAA5m/wPAAAPha4AAACBwwAQAAA7Hep9AAByErsAABAA6KgA',
  'AABpbnRhY3QKAOLSiw36fQAA40GJ6Jn38UKJ0LrzAQAA7ojgQu7B6BBC7rDgQu6wAbLy7rAwsvfu7KgIdPuJ6LLwuYAAAADv',
  '4v2y9+yogHX7qCF1Q4nombkUAAAA9/GF0g+FTv///+g+AAAAYmVhdCAAuQgAAACJ6sHCBIjQJA88ChxpL+gvAAAA4u2wCugm',
  'AAAA6R3////oDQAAAGRhbWFnZWQKAPr06/xerITAdAfoBAAAAOv0/+ZSiMS6/QMAAOyoIHT7iOCy+O5aw1CwIOYgWM8XAKx9',
  'AAAAAP//AAAAms8A//8AAACSzwBHAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA',
  'AAAAAAAAVao=',
].join('');

/** The first sector of the medium that a guest boots from. */
export function bootSector(parameters: BootParameters): Buffer {
  const { memoryMiB, workingSetMiB, dirtyMiBPerSecond, diskSectors } = parameters;
  if (memoryMiB < 2 || memoryMiB > MOST_MEMORY_MIB)
    throw new RangeError(`cannot boot a guest of ${memoryMiB} MiB: it takes 2 to ${MOST_MEMORY_MIB} MiB`);
  if (workingSetMiB < 1 || workingSetMiB >= memoryMiB)
    throw new RangeError(`cannot dirty ${workingSetMiB} MiB: the guest has ${memoryMiB - 1} MiB for that`);
  const sector = Buffer.from(SECTOR, 'base64');
  const words = [
    memoryMiB * 2 ** 20,
    (1 + workingSetMiB) * 2 ** 20,
    Math.round((dirtyMiBPerSecond * PAGES_PER_MIB) / TICKS_PER_SECOND),
    Math.ceil(Math.min(MOST_LOOKED_AT_MIB, memoryMiB / TICKS_PER_LOOK) * PAGES_PER_MIB),
    diskSectors,
  ];
  for (const [index, word] of words.entries()) sector.writeUInt32LE(word, PARAMETERS_AT + 4 * index);
  return sector;
}
