import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { systemClock } from '@virt-trust/base/clock.ts';
import { silentLog } from '@virt-trust/base/log.ts';
import { JournaledEngine } from '../apply/engine.ts';
import { killAt } from '../apply/fixture-kill.ts';
import { Bell, manage } from '../apply/fixture-manager.ts';
import { desiredState, FileEffects, makeAuthority, makeHost } from '../apply/fixtures.ts';
import { barrierOf } from '../sets/barrier.ts';
import { type AgentPaths, agentPaths } from '../state/paths.ts';
import { crlOf, readCrl, readLoaded } from './fixtures.ts';
import { crlDocument } from './record.ts';

const CHILD = fileURLToPath(new URL('./fixture-host.ts', import.meta.url));
const PURPOSES = { libvirt: 'control', migration: 'migration', vnc: 'console' } as const;
const SERVICES = ['libvirt', 'migration', 'vnc'] as const;

describe('An agent that is killed while a CRL comes', () => {
  let base: string;
  let root: string;
  let paths: AgentPaths;
  let first: string;
  let second: string;

  function start(what: 'put' | 'start', barrier = ''): ChildProcess {
    return spawn(process.execPath, [CHILD, 'play', root, what], {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { ...process.env, VIRT_TRUST_CRL_BARRIER: barrier, NODE_COMPILE_CACHE: join(base, 'cache') },
    });
  }

  async function finish(what: 'put' | 'start'): Promise<void> {
    const [code] = await once(start(what), 'exit');
    assert.equal(code, 0);
  }

  before(async () => {
    base = await mkdtemp(join(tmpdir(), 'virt-trust-crl-kill-'));
    root = join(base, 'root');
    paths = agentPaths(root);
    await mkdir(root);
    const authority = await makeAuthority('Ours');
    await makeHost(paths);
    const bell = new Bell();
    const engine = new JournaledEngine({
      paths,
      effects: new FileEffects(paths),
      clock: systemClock,
      log: silentLog,
      emit: async () => bell.ring(),
      barrier: barrierOf(undefined),
      proofBoundMs: 60_000,
      mode: 'manage',
      checkIntervalMs: null,
    });
    await engine.start();
    await manage(engine, bell, authority, desiredState(authority, 1));
    await engine.stop();
    first = crlOf(authority, 1);
    second = crlOf(authority, 2, { serials: ['0badc0de'] });
    await writeFile(join(root, 'put.crl'), first);
    await finish('put');
    await writeFile(join(root, 'put.crl'), second);
    await cp(root, join(base, 'before'), { recursive: true, verbatimSymlinks: true });
  });
  after(() => rm(base, { recursive: true, force: true }));

  it('leaves the old one or the new one whole, and has daemons load what it kept when it starts again', async () => {
    const steps: string[] = [];
    for (let index = 0; ; ) {
      await rm(root, { recursive: true, force: true });
      await cp(join(base, 'before'), root, { recursive: true, verbatimSymlinks: true });
      const reached = await killAt((barrier) => start('put', barrier), index);
      if (reached === undefined) break;
      index = reached.index + 1;
      steps.push(reached.step);
      for (const service of SERVICES)
        assert.ok([first, second].includes((await readCrl(paths, service)) ?? ''), reached.step);
      await finish('start');
      const records = (await crlDocument(paths).read())?.crls ?? [];
      for (const service of SERVICES) {
        const kept = records.find(({ installed }) => installed.purpose === PURPOSES[service]);
        assert.deepEqual(kept?.pending, [], reached.step);
        assert.equal(await readCrl(paths, service), kept?.pem, reached.step);
        assert.equal(await readLoaded(paths, service), kept?.pem, reached.step);
      }
      await finish('put');
      for (const service of SERVICES) assert.equal(await readLoaded(paths, service), second, reached.step);
    }
    assert.deepEqual(steps.slice(0, 4), [
      'crl-keep-control',
      'crl-keep-migration',
      'crl-keep-console',
      'crl-write-libvirt',
    ]);
    assert.equal(steps.length, 12);
    assert.equal(await readFile(join(root, 'put.crl'), 'utf8'), second);
  });
});
