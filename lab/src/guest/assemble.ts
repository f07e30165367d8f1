import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run } from '../command.ts';

const SOURCE = fileURLToPath(new URL('./boot-sector.s', import.meta.url));

/** The octets of boot-sector.s as GNU as and ld make them; throws `lab.command_missing` where they are not installed. */
export async function assemble(): Promise<Buffer> {
  const directory = await mkdtemp(join(tmpdir(), 'virt-trust-assemble-'));
  try {
    const [object, binary] = [join(directory, 'boot.o'), join(directory, 'boot.bin')];
    await run(['as', '--32', '-o', object, SOURCE]);
    await run([
      'ld',
      '-m',
      'elf_i386',
      '--oformat=binary',
      '-Ttext=0x7c00',
      '-e0x7c00',
      '-o',
      binary,
      object,
    ]);
    return await readFile(binary);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

// `node lab/src/guest/assemble.ts` prints what boot-sector.ts holds.
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  console.log((await assemble()).toString('base64').replace(/.{1,96}/g, "  '$&',"));
}
