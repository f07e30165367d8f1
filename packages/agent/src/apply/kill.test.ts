import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { instant } from '@virt-trust/base/instant.ts';
import { SERVICES } from '@virt-trust/contract/model/service.ts';
import { parseCertificates } from '@virt-trust/pki/certificate.ts';
import { formatName } from '@virt-trust/pki/name.ts';
import { LAYOUTS } from '../sets/layout.ts';
import { verifyContent } from '../sets/staging.ts';
import { type AgentPaths, agentPaths } from '../state/paths.ts';
import { killAt } from './fixture-kill.ts';
import type { Scenario } from './fixture-manager.ts';
import { desiredState, makeAuthority, makeHost, readAuthority, served } from './fixtures.ts';

const CHILD = fileURLToPath(new URL('./fixture-manager.ts', import.meta.url));

/** Runs a scenario in a process of its own; with a barrier directory it is held there. */
function start(root: string, scenario: Scenario, barrier?: string): ChildProcess {
  return spawn(process.execPath, [CHILD, 'play', root, JSON.stringify(scenario)], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, VIRT_TRUST_BARRIER: barrier ?? '', NODE_COMPILE_CACHE: join(root, '../cache') },
  });
}

async function finish(root: string, scenario: Scenario): Promise<void> {
  const [code] = await once(start(root, scenario), 'exit');
  assert.equal(code, 0);
}

/** Asserts that what each service's paths resolve to is one whole set; returns the pins that are served. */
async function assertWhole(paths: AgentPaths, root: string): Promise<(string | undefined)[]> {
  const authority = readAuthority(
    await readFile(join(root, 'ca.pem'), 'utf8'),
    await readFile(join(root, 'ca.key'), 'utf8'),
  );
  const pins: (string | undefined)[] = [];
  for (const service of SERVICES) {
    const content = await served(paths, service);
    if (Object.keys(content).length === 0) {
      pins.push(undefined);
      continue;
    }
    const credential = desiredState(authority, 1, { identity: 'found' }).credentials[0];
    assert.ok(credential);
    // Key of the certificate, chain to the bundle, rules of libvirt and QEMU.
    const { leaf } = verifyContent(LAYOUTS[service], content, credential, instant(Date.now()), {
      libvirt: '9.0.0',
      qemu: '7.2.22',
    });
    pins.push(leaf.pin);
  }
  return pins;
}

/** Every file below /etc with its content, as an administrator sees it. */
async function etc(paths: AgentPaths): Promise<Record<string, string>> {
  const files = await readdir(paths.at('/etc'), { recursive: true, withFileTypes: true });
  const entries = files
    .filter((entry) => !entry.isDirectory())
    .map(async (entry) => {
      const path = join(entry.parentPath, entry.name);
      return [path, `${entry.isSymbolicLink() ? 'link ' : ''}${await readFile(path, 'utf8')}`] as const;
    });
  return Object.fromEntries((await Promise.all(entries)).sort());
}

for (const origin of ['bare', 'adopted'] as const) {
  describe(`An agent that is killed on a host that was ${origin}`, () => {
    let base: string;
    let root: string;
    let paths: AgentPaths;
    let original: Record<string, string>;

    before(async () => {
      base = await mkdtemp(join(tmpdir(), 'virt-trust-kill-'));
      root = join(base, 'root');
      paths = agentPaths(root);
      await mkdir(root);
      const authority = await makeAuthority('Ours');
      await writeFile(join(root, 'ca.pem'), authority.pem);
      await writeFile(join(root, 'ca.key'), authority.keyPem);
      await makeHost(paths, origin === 'adopted' ? await makeAuthority('Found') : undefined);
      original = await etc(paths);
      await cp(root, join(base, 'fresh'), { recursive: true, verbatimSymlinks: true });
      await finish(root, { kind: 'apply', number: 1, failing: [] });
      await cp(root, join(base, 'settled'), { recursive: true, verbatimSymlinks: true });
    });

    after(() => rm(base, { recursive: true, force: true }));

    async function from(snapshot: 'fresh' | 'settled'): Promise<void> {
      await rm(root, { recursive: true, force: true });
      await cp(join(base, snapshot), root, { recursive: true, verbatimSymlinks: true });
    }

    async function killEverywhere(
      snapshot: 'fresh' | 'settled',
      scenario: Scenario,
      begin: number,
      completed: (step: string) => Promise<void>,
    ): Promise<string[]> {
      const steps: string[] = [];
      for (let index = begin; ; ) {
        await from(snapshot);
        const reached = await killAt((barrier) => start(root, scenario, barrier), index);
        if (reached === undefined) return steps;
        const { step } = reached;
        index = reached.index + 1;
        steps.push(step);
        await assertWhole(paths, root);
        await finish(root, scenario);
        await completed(step);
      }
    }

    /** The planned steps of a scenario. */
    async function stepsOf(scenario: Scenario): Promise<string[]> {
      await from('fresh');
      await killAt((barrier) => start(root, scenario, barrier), 0);
      return JSON.parse(await readFile(paths.journal, 'utf8')).steps;
    }

    it('serves a whole set after each step of an application, and completes it', async () => {
      const scenario: Scenario = { kind: 'apply', number: 1, failing: [] };
      const steps = await killEverywhere('fresh', scenario, 0, async (step) => {
        const pins = await assertWhole(paths, root);
        const { certificate } = await served(paths, 'libvirt');
        assert.ok(
          pins.every((pin) => pin !== undefined),
          step,
        );
        const [leaf] = parseCertificates(certificate ?? '');
        assert.equal(leaf === undefined ? '' : formatName(leaf.issuer), 'CN=Ours,O=Example', step);
        assert.equal(JSON.parse(await readFile(join(paths.agent, 'apply.json'), 'utf8')).number, 1, step);
      });
      assert.equal(steps[0], 'keep-found');
      assert.equal(steps.at(-1), 'clean-backup');
    });

    // What follows does on a bare host a part of what it does on an adopted one.
    if (origin === 'bare') return;

    it('serves a whole set after each step of the way back, and the host has its own again', async () => {
      const scenario: Scenario = { kind: 'apply', number: 1, failing: ['prove-vnc'] };
      const forward = await stepsOf(scenario);
      const first = forward.indexOf('prove-vnc') + 1;
      const steps = await killEverywhere('fresh', scenario, first, async (step) => {
        assert.deepEqual(await etc(paths), original, step);
      });
      assert.equal(steps.at(-1), 'back-settle');
    });

    it('serves a whole set after each step of switching TLS off, and has its own again; on again it applies', async () => {
      const off: Scenario = { kind: 'off', number: 2 };
      const steps = await killEverywhere('settled', off, 0, async (step) => {
        assert.deepEqual(await etc(paths), original, step);
        assert.deepEqual(await readdir(paths.services).catch(() => []), [], step);
        const { number, services } = JSON.parse(await readFile(join(paths.agent, 'apply.json'), 'utf8'));
        assert.equal(number, 2, step);
        for (const { current, lastNumber } of services)
          assert.deepEqual([current, lastNumber], [null, 1], step);
        assert.deepEqual(await readdir(join(paths.agent, 'generations')).catch(() => []), [], step);
      });
      assert.equal(steps.at(-1), 'off-state');
      await finish(root, { kind: 'apply', number: 3, failing: [] });
      const pins = await assertWhole(paths, root);
      assert.ok(pins.every((pin) => pin !== undefined));
      await finish(root, { kind: 'off', number: 4 });
      assert.deepEqual(await etc(paths), original);
    });

    it('serves a whole set after each step of a removal, and the host has its own again', async () => {
      const steps = await killEverywhere('settled', { kind: 'remove' }, 0, async (step) => {
        assert.deepEqual(await etc(paths), original, step);
        assert.deepEqual(await readdir(paths.state), ['agent', 'found'], step);
      });
      assert.equal(steps.at(-1), 'remove-state');
    });
  });
}
