import { chmod, mkdir, readlink, rm, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { TrustError } from '@virt-trust/base/error.ts';
import type { DesiredState } from '@virt-trust/contract/model/desired-state.ts';
import { type Configuration, parseConfiguration } from '@virt-trust/libvirt/configuration.ts';
import { readFileIfPresent, replaceLink, writeFileAtomic } from '../state/atomic-file.ts';
import type { AgentPaths } from '../state/paths.ts';
import type { ApplyState } from './apply-state.ts';
import { applyEdits, type Edit, restoreKey, unmetEdits } from './configuration-edits.ts';
import { type QemuContext, qemuEdits, type RpcContext, rpcEdits } from './daemon-settings.ts';
import { type Found, type FoundManifest, foundAt } from './found.ts';
import type { Restored } from './links.ts';

type OwnKeys = ApplyState['ownKeys'];
type Which = keyof OwnKeys;

/** The effective configuration files: kept in the state directory, linked from where libvirt reads them. */
export class SettingsFiles {
  readonly #paths: AgentPaths;
  readonly #found: Found;

  constructor(paths: AgentPaths, found: Found) {
    this.#paths = paths;
    this.#found = found;
  }

  /** Keeps the text that holds now, to go back to within an application. */
  async keepBefore(manifest: FoundManifest): Promise<void> {
    await mkdir(this.#before, { recursive: true, mode: 0o700 });
    for (const which of WHICH) {
      const bytes = await this.#now(manifest, which);
      const path = join(this.#before, which);
      if (bytes === undefined) await rm(path, { force: true });
      else await writeFileAtomic(path, bytes, { mode: 0o600 });
    }
  }

  /** Whether the files must change for this desired state. */
  async differs(
    manifest: FoundManifest,
    desired: DesiredState,
    context: RpcContext & QemuContext,
    own: OwnKeys,
  ): Promise<boolean> {
    for (const which of WHICH) {
      const { text, next } = await this.#plan(manifest, which, desired, context, own);
      if (!Buffer.from(next.toBytes()).equals(text)) return true;
    }
    return false;
  }

  /** Writes what must hold and links it; returns the keys that are ours now. */
  async write(
    manifest: FoundManifest,
    desired: DesiredState,
    context: RpcContext & QemuContext,
    own: OwnKeys,
  ): Promise<OwnKeys> {
    const keys: { rpc: string[]; qemu: string[] } = { rpc: [], qemu: [] };
    for (const which of WHICH) {
      const { next, edits } = await this.#plan(manifest, which, desired, context, own);
      keys[which] = edits.map(({ key }) => key);
      if (keys[which].length === 0 && own[which].length === 0) continue;
      await this.#put(manifest, which, next.toBytes());
    }
    return keys;
  }

  /** Puts back the text that held before the application. */
  async goBack(manifest: FoundManifest): Promise<void> {
    for (const which of WHICH) {
      const bytes = await readFileIfPresent(join(this.#before, which));
      const now = await this.#now(manifest, which);
      if (bytes !== undefined && now?.equals(bytes) !== true) await this.#put(manifest, which, bytes);
    }
  }

  /** Files that are not linked any more, or in which somebody changed keys of ours. */
  async disturbed(
    manifest: FoundManifest,
    desired: DesiredState,
    context: RpcContext & QemuContext,
    own: OwnKeys,
  ): Promise<{ path: string; keys: string[] }[]> {
    const wrong: { path: string; keys: string[] }[] = [];
    for (const which of WHICH) {
      if (own[which].length === 0) continue;
      const path = pathOf(manifest, which);
      const { text, edits } = await this.#plan(manifest, which, desired, context, own);
      const unmet = unmetEdits(parseConfiguration(text, path), edits);
      const linked =
        (await readlink(this.#paths.at(path)).catch(() => undefined)) === this.#effective(manifest, which);
      if (unmet.length > 0 || !linked) wrong.push({ path, keys: unmet });
    }
    return wrong;
  }

  /** Found configuration back; edits that somebody made meanwhile stay, only our keys go. */
  async giveBack(manifest: FoundManifest, own: OwnKeys): Promise<Restored> {
    const outcome: Restored = { restored: [], left: [] };
    for (const which of WHICH) {
      const path = pathOf(manifest, which);
      const now = await this.#now(manifest, which);
      const target = await readlink(this.#paths.at(path)).catch(() => undefined);
      if (target !== this.#effective(manifest, which) && own[which].length === 0) continue;
      const found = foundAt(manifest, path);
      const foundText = (await this.#found.content(manifest, path)) ?? Buffer.alloc(0);
      if (now === undefined) continue;
      const text = parseConfiguration(now, path);
      for (const key of own[which]) restoreKey(text, parseConfiguration(foundText, path), key);
      const bytes = Buffer.from(text.toBytes());
      if (bytes.equals(foundText)) await this.#found.restore(manifest, found);
      else {
        const { mode, uid, gid } = await stat(this.#paths.at(path));
        await writeFileAtomic(this.#paths.at(path), bytes, { mode: mode & 0o7777, uid, gid });
        outcome.left.push(`${path}: was edited meanwhile; only virt-trust's own keys were taken back`);
      }
      outcome.restored.push(path);
    }
    return outcome;
  }

  async #plan(
    manifest: FoundManifest,
    which: Which,
    desired: DesiredState,
    context: RpcContext & QemuContext,
    own: OwnKeys,
  ) {
    const path = pathOf(manifest, which);
    const found = parseConfiguration((await this.#found.content(manifest, path)) ?? '', path);
    const text = (await this.#now(manifest, which)) ?? Buffer.alloc(0);
    const next: Configuration = parseConfiguration(text, path);
    const edits: Edit[] =
      which === 'rpc' ? rpcEdits(desired, found, context) : qemuEdits(desired, found, context);
    applyEdits(next, found, edits, own[which]);
    return { text, next, edits };
  }

  /** What libvirt reads now, whether through our link or from a file that somebody put in its place. */
  async #now(manifest: FoundManifest, which: Which): Promise<Buffer | undefined> {
    const path = pathOf(manifest, which);
    return (
      (await readFileIfPresent(this.#paths.at(path))) ??
      (await readFileIfPresent(this.#effective(manifest, which))) ??
      (await this.#found.content(manifest, path))
    );
  }

  async #put(manifest: FoundManifest, which: Which, bytes: Uint8Array): Promise<void> {
    const path = pathOf(manifest, which);
    const effective = this.#effective(manifest, which);
    const found = foundAt(manifest, path);
    const kept = found.kind === 'file' || found.kind === 'link' ? found.file : null;
    await mkdir(this.#paths.effectiveEtc, { recursive: true });
    // As open as /etc/libvirt, whatever the umask.
    await chmod(this.#paths.effectiveEtc, 0o755);
    const { mode, uid, gid } = kept ?? { mode: 0o600, uid: 0, gid: 0 };
    await writeFileAtomic(effective, bytes, { mode, uid, gid });
    if ((await readlink(this.#paths.at(path)).catch(() => undefined)) !== effective)
      await replaceLink(this.#paths.at(path), effective);
  }

  #effective(manifest: FoundManifest, which: Which): string {
    return join(this.#paths.effectiveEtc, basename(pathOf(manifest, which)));
  }

  get #before(): string {
    return join(this.#paths.agent, 'settings-before');
  }
}

const WHICH: readonly Which[] = ['rpc', 'qemu'];

function pathOf(manifest: FoundManifest, which: Which): string {
  return which === 'rpc' ? manifest.rpcConfiguration : manifest.qemuConfiguration;
}

/** Reads a configuration of the host; throws `libvirt.no_configuration` where there is none. */
export async function readHostConfiguration(paths: AgentPaths, hostPath: string): Promise<Configuration> {
  const bytes = await readFileIfPresent(paths.at(hostPath));
  if (bytes !== undefined) return parseConfiguration(bytes, hostPath);
  throw new TrustError('libvirt.no_configuration', 'failed', `cannot read ${hostPath}: there is none`, {
    hint: "install the distribution's package of the libvirt daemon, which brings it",
  });
}
