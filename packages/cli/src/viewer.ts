import { spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { access, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { TrustError } from '@virt-trust/base/error.ts';
import { writeWholeFile } from './whole-file.ts';

const VIEWER = 'remote-viewer';

/** The path of remote-viewer(1); throws `cli.no_viewer` where it is not installed. */
export async function findViewer(): Promise<string> {
  for (const directory of (process.env['PATH'] ?? '').split(delimiter)) {
    const path = join(directory, VIEWER);
    if (directory === '') continue;
    try {
      await access(path, constants.X_OK);
      return path;
    } catch {
      // Not in this directory.
    }
  }
  throw new TrustError('cli.no_viewer', 'not-found', `cannot open the console: ${VIEWER} is not installed`, {
    hint: 'install it (Debian: apt install virt-viewer; Fedora: dnf install virt-viewer), or take the connection file elsewhere with --vv FILE',
  });
}

/** Runs remote-viewer with a connection file until it is closed. */
export async function runViewer(viewer: string, connectionFile: string): Promise<void> {
  const directory = await mkdtemp(join(process.env['XDG_RUNTIME_DIR'] ?? tmpdir(), 'virt-trust-'));
  try {
    const path = join(directory, 'console.vv');
    await writeWholeFile(path, connectionFile, 0o600);
    const child = spawn(viewer, [path], { stdio: 'inherit' });
    const code = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', resolve);
    });
    if (code !== 0)
      throw new TrustError(
        'cli.viewer_failed',
        'failed',
        `cannot show the console: ${VIEWER} ended with ${code}`,
      );
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
