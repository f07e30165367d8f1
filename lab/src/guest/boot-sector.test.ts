import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { deflateRawSync, zstdCompressSync } from 'node:zlib';
import { exec } from '../command.ts';
import { CACHE_DIRECTORY } from '../paths.ts';
import { assemble } from './assemble.ts';
import { bootSector, SECTOR_BYTES } from './boot-sector.ts';

const PARAMETERS = { memoryMiB: 16, workingSetMiB: 8, dirtyMiBPerSecond: 10, diskSectors: 4 };

const installed = async (...argv: string[]) => (await exec(argv).catch(() => ({ code: 1 }))).code === 0;
const binutils = (await installed('as', '--version')) && (await installed('ld', '--version'));

/** QEMU of this machine, or that of a root of the lab's, with its libraries and firmware. */
async function findQemu(): Promise<{ argv: string[]; env: NodeJS.ProcessEnv } | undefined> {
  const name = 'qemu-system-x86_64';
  if (await installed(name, '--version')) return { argv: [name], env: process.env };
  const roots = existsSync(CACHE_DIRECTORY) ? readdirSync(CACHE_DIRECTORY) : [];
  const root = roots
    .map((one) => join(CACHE_DIRECTORY, one))
    .find((one) => existsSync(`${one}/usr/bin/${name}`));
  if (root === undefined) return undefined;
  const libraries = `${root}/usr/lib/x86_64-linux-gnu`;
  const loader = [
    `${root}/lib64/ld-linux-x86-64.so.2`,
    '--library-path',
    libraries,
    `${root}/usr/bin/${name}`,
  ];
  const firmware = ['-L', `${root}/usr/share/qemu`, '-L', `${root}/usr/share/seabios`];
  return { argv: [...loader, ...firmware], env: { ...process.env, QEMU_MODULE_DIR: `${libraries}/qemu` } };
}
const qemu = await findQemu();

test('the boot sector is what its source says', { skip: binutils ? false : 'no binutils' }, async () => {
  const source = await assemble();
  assert.equal(source.length, SECTOR_BYTES);
  const ours = bootSector(PARAMETERS);
  assert.deepEqual(ours.subarray(0, 490), source.subarray(0, 490));
  assert.deepEqual(ours.subarray(510), Buffer.of(0x55, 0xaa));
});

test('a rate is counted in pages a tick, a working set from 1 MiB on', () => {
  const sector = bootSector(PARAMETERS);
  const words = [0, 1, 2, 3, 4].map((index) => sector.readUInt32LE(490 + 4 * index));
  assert.deepEqual(words, [16 << 20, 9 << 20, 128, 205, 4]);
});

test('a guest that would not fit below 4 GiB, or dirty more than it has, is refused', () => {
  for (const memoryMiB of [1, 3073])
    assert.throws(() => bootSector({ ...PARAMETERS, memoryMiB, workingSetMiB: 1 }), RangeError);
  for (const workingSetMiB of [0, 16])
    assert.throws(() => bootSector({ ...PARAMETERS, workingSetMiB }), RangeError);
});

test('QEMU boots it: memory that does not compress, every word looked at, sectors written in turn', {
  skip: qemu === undefined ? 'no QEMU' : false,
}, async () => {
  const directory = await mkdtemp(join(tmpdir(), 'virt-trust-guest-'));
  try {
    const [disk, memory] = [join(directory, 'disk'), join(directory, 'memory')];
    await writeFile(disk, Buffer.concat([bootSector(PARAMETERS), Buffer.alloc(2 ** 20)]));
    const { argv = [], env } = qemu ?? {};
    const [command = '', ...args] = [
      ...argv,
      ...['-machine', 'pc,accel=tcg,memory-backend=memory', '-m', '16', '-display', 'none', '-vga', 'none'],
      ...['-object', `memory-backend-file,id=memory,mem-path=${memory},size=16M,share=on`],
      ...[
        '-drive',
        `file=${disk},format=raw,if=ide`,
        '-serial',
        'stdio',
        '-monitor',
        'none',
        '-no-reboot',
        '-nic',
        'none',
      ],
    ];
    const child = spawn(command, args, { env, stdio: ['ignore', 'pipe', 'inherit'] });
    let said = '';
    for await (const chunk of child.stdout) {
      said += chunk;
      if (/intact\n[\s\S]*intact\n/.test(said) || said.includes('damaged')) break;
    }
    child.kill();
    await new Promise((resolve) => child.once('close', resolve));
    assert.match(
      said.slice(0, said.lastIndexOf('\n') + 1),
      /^hello\nfilled\n(?:beat [0-9A-F]{8}\n|intact\n)+$/,
    );
    const beats = [...said.matchAll(/beat (.{8})/g)].map(([, digits]) => Number.parseInt(digits ?? '', 16));
    assert.deepEqual(
      beats,
      Array.from({ length: beats.length }, (_, index) => 20 * (index + 1)),
    );
    const content = (await readFile(memory)).subarray(2 ** 20);
    for (const compressed of [deflateRawSync(content, { level: 9 }), zstdCompressSync(content)])
      assert.ok(compressed.length > 0.99 * content.length, `${compressed.length} of ${content.length}`);
    const sectors = await readFile(disk);
    const ticks = [1, 2, 3, 4].map((lba) => sectors.readUInt32LE(SECTOR_BYTES * lba + 508));
    assert.equal(Math.max(...ticks) - Math.min(...ticks), 3);
    assert.ok(ticks.every((tick, index) => tick % 4 === index));
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
