/**
 * Takes libatomic.so.1 out of a Node executable, so that the deployed program needs no more of a host than the C and
 * C++ libraries. The official builds use one function of it, `__atomic_compare_exchange` on 8 bytes, which is put
 * into the unused end of the executable segment's last page; the relocation that would have asked for it points there.
 */
const FUNCTION = '__atomic_compare_exchange';
const LIBRARY = 'libatomic.so.1';

interface Machine {
  readonly jumpSlot: number;
  readonly relative: number;
  /** bool __atomic_compare_exchange(size_t, void *object, void *expected, void *desired, int, int); traps on any size but 8. */
  readonly code: Uint8Array;
}

const MACHINES: Readonly<Record<number, Machine>> = {
  // x86-64: lock cmpxchg
  62: {
    jumpSlot: 7,
    relative: 8,
    code: Buffer.from(
      '4883ff0875174 88b02488b09f0480fb10e0f94c17403488902 0fb6c1c30f0b'.replaceAll(' ', ''),
      'hex',
    ),
  },
  // AArch64: ldaxr, stlxr
  183: {
    jumpSlot: 1026,
    relative: 1027,
    code: words([
      0xf100201f, 0x540001c1, 0xf9400044, 0xf9400065, 0xc85ffc26, 0xeb0400df, 0x540000a1, 0xc807fc25,
      0x35ffff87, 0x52800020, 0xd65f03c0, 0xd5033f5f, 0xf9000046, 0x52800000, 0xd65f03c0, 0x00000000,
    ]),
  },
};

function words(values: readonly number[]): Uint8Array {
  const buffer = Buffer.alloc(values.length * 4);
  for (const [index, value] of values.entries()) buffer.writeUInt32LE(value, index * 4);
  return buffer;
}

const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const PF_X = 1;
const DT = {
  needed: 1,
  pltRelSize: 2,
  strtab: 5,
  symtab: 6,
  jmprel: 23,
  versym: 0x6ffffff0,
  verneed: 0x6ffffffe,
  verneednum: 0x6fffffff,
} as const;

/** A 64-bit little-endian ELF file, as far as is needed here. */
class Elf {
  readonly bytes: Buffer;
  readonly segments: {
    readonly at: number;
    readonly type: number;
    readonly flags: number;
    readonly offset: number;
    readonly address: number;
    readonly size: number;
  }[] = [];
  readonly #dynamic = new Map<number, { at: number; value: number }[]>();

  constructor(bytes: Buffer) {
    this.bytes = bytes;
    if (bytes.readUInt32BE(0) !== 0x7f454c46 || bytes[4] !== 2 || bytes[5] !== 1)
      throw new Error('not a 64-bit little-endian ELF file');
    const table = this.number(32);
    for (let index = 0; index < bytes.readUInt16LE(56); index++) {
      const at = table + index * bytes.readUInt16LE(54);
      this.segments.push({
        at,
        type: bytes.readUInt32LE(at),
        flags: bytes.readUInt32LE(at + 4),
        offset: this.number(at + 8),
        address: this.number(at + 16),
        size: this.number(at + 32),
      });
    }
    const dynamic = this.segments.find((segment) => segment.type === PT_DYNAMIC);
    for (let at = dynamic?.offset ?? 0; dynamic !== undefined && this.number(at) !== 0; at += 16) {
      const entries = this.#dynamic.get(this.number(at)) ?? [];
      entries.push({ at, value: this.number(at + 8) });
      this.#dynamic.set(this.number(at), entries);
    }
  }

  number(at: number): number {
    return Number(this.bytes.readBigUInt64LE(at));
  }

  entries(tag: number): readonly { at: number; value: number }[] {
    return this.#dynamic.get(tag) ?? [];
  }

  /** File offset of what the tag's address points at. */
  place(tag: number): number {
    return this.offsetOf(this.entries(tag)[0]?.value ?? 0);
  }

  offsetOf(address: number): number {
    const segment = this.segments.find(
      ({ type, address: start, size }) => type === PT_LOAD && address >= start && address < start + size,
    );
    if (segment === undefined) throw new Error(`no segment holds address ${address.toString(16)}`);
    return segment.offset + address - segment.address;
  }

  string(offset: number): string {
    const start = this.place(DT.strtab) + offset;
    return this.bytes.toString('latin1', start, this.bytes.indexOf(0, start));
  }
}

/** Changes the executable in place; one that does not need the library stays as it is. Throws where it uses more of it. */
export function removeLibatomic(bytes: Buffer): void {
  const elf = new Elf(bytes);
  const needed = elf.entries(DT.needed);
  const library = needed.find(({ value }) => elf.string(value) === LIBRARY);
  if (library === undefined) return;
  const machine = MACHINES[bytes.readUInt16LE(18)];
  if (machine === undefined) throw new Error(`no code for machine ${bytes.readUInt16LE(18)}`);
  const version = dropVersionNeed(elf);
  redirect(elf, machine, version, placeCode(elf, machine.code));
  // A library named twice is loaded once: the entry names another one that is needed anyway.
  const other = needed.find((entry) => entry !== library);
  bytes.writeBigUInt64LE(BigInt(other?.value ?? 0), library.at + 8);
}

/** Takes the library's entry out of the list of needed versions; returns its version index. */
function dropVersionNeed(elf: Elf): number {
  const { bytes } = elf;
  const count = elf.entries(DT.verneednum)[0];
  let at = elf.place(DT.verneed);
  let previous: number | undefined;
  for (let index = 0; index < (count?.value ?? 0); index++) {
    const next = bytes.readUInt32LE(at + 12);
    if (elf.string(bytes.readUInt32LE(at + 4)) === LIBRARY) {
      const version = bytes.readUInt16LE(at + bytes.readUInt32LE(at + 8) + 6);
      if (bytes.readUInt16LE(at + 2) !== 1) throw new Error(`more than one version of ${LIBRARY} is used`);
      const head = elf.entries(DT.verneed)[0];
      if (previous === undefined)
        bytes.writeBigUInt64LE(BigInt((head?.value ?? 0) + next), (head?.at ?? 0) + 8);
      else bytes.writeUInt32LE(next === 0 ? 0 : bytes.readUInt32LE(previous + 12) + next, previous + 12);
      bytes.writeBigUInt64LE(BigInt((count?.value ?? 1) - 1), (count?.at ?? 0) + 8);
      return version;
    }
    previous = at;
    at += next;
  }
  throw new Error(`${LIBRARY} has no version`);
}

/** Puts code where the page of the executable segment is unused; returns its address. */
function placeCode(elf: Elf, code: Uint8Array): number {
  const { bytes } = elf;
  const segment = elf.segments.find(({ type, flags }) => type === PT_LOAD && (flags & PF_X) !== 0);
  if (segment === undefined) throw new Error('no executable segment');
  const start = Math.ceil((segment.offset + segment.size) / 16) * 16;
  const end = start + code.length;
  if (
    end > Math.ceil((segment.offset + segment.size) / 4096) * 4096 ||
    bytes.subarray(start, end).some((byte) => byte !== 0)
  )
    throw new Error('no room for code');
  bytes.set(code, start);
  const size = BigInt(end - segment.offset);
  bytes.writeBigUInt64LE(size, segment.at + 32);
  bytes.writeBigUInt64LE(size, segment.at + 40);
  return segment.address + start - segment.offset;
}

/** Points the relocation of the one function used at the code; its symbol is asked for by nobody then. */
function redirect(elf: Elf, machine: Machine, version: number, address: number): void {
  const { bytes } = elf;
  const [symbols, versions, relocations] = [elf.place(DT.symtab), elf.place(DT.versym), elf.place(DT.jmprel)];
  let redirected = 0;
  for (let at = relocations; at < relocations + (elf.entries(DT.pltRelSize)[0]?.value ?? 0); at += 24) {
    const symbol = bytes.readUInt32LE(at + 12);
    if (bytes.readUInt16LE(versions + symbol * 2) !== version) continue;
    const name = elf.string(bytes.readUInt32LE(symbols + symbol * 24));
    if (name !== FUNCTION || bytes.readUInt32LE(at + 8) !== machine.jumpSlot)
      throw new Error(`${LIBRARY} is used for ${name} too`);
    bytes.writeUInt32LE(machine.relative, at + 8);
    bytes.writeUInt32LE(0, at + 12);
    bytes.writeBigUInt64LE(BigInt(address), at + 16);
    // The symbol stays in the table, weak and without a version: nothing refers to it.
    bytes.writeUInt16LE(1, versions + symbol * 2);
    bytes[symbols + symbol * 24 + 4] = ((bytes[symbols + symbol * 24 + 4] ?? 0) & 0x0f) | 0x20;
    redirected++;
  }
  if (redirected !== 1) throw new Error(`${FUNCTION} has ${redirected} relocations, not one`);
}
