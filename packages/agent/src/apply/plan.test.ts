import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { DesiredCredential, DesiredState } from '@virt-trust/contract/model/desired-state.ts';
import { testDesiredSettings } from '@virt-trust/contract/model/fixtures.ts';
import { SERVICES } from '@virt-trust/contract/model/service.ts';
import fc from 'fast-check';
import { type ApplyState, EMPTY_STATE, emptyJournal, type Journal } from '../sets/apply-state.ts';
import {
  digestOfIdentity,
  digestOfTarget,
  parseStep,
  planApplication,
  planRemoval,
  planWayBack,
} from './plan.ts';
import { STEPS } from './steps.ts';

function credential(change: Partial<DesiredCredential> = {}): DesiredCredential {
  return {
    service: 'libvirt',
    endpoints: [],
    identity: 'ours',
    subject: { commonName: 'a', organization: 'o' },
    names: { dns: ['a'], addresses: [] },
    keyAlgorithm: 'ecdsa-p256',
    revision: 1,
    bundle: '-----BEGIN A',
    keepFoundTrust: true,
    ...change,
  };
}

function desired(...credentials: DesiredCredential[]): DesiredState {
  return { epoch: 1, number: 1, credentials, settings: testDesiredSettings() };
}

function serving(one: DesiredCredential, number: number): ApplyState {
  return {
    ...EMPTY_STATE,
    services: [
      {
        service: one.service,
        lastNumber: number,
        current: {
          number,
          identity: one.identity,
          identityDigest: digestOfIdentity(one),
          targetDigest: digestOfTarget(one),
          serialNumber: '01',
          pin: `sha256:${'A'.repeat(43)}`,
          notAfter: 0,
        },
        proofs: [],
        failure: null,
      },
    ],
  };
}

const base = { waiting: [], foundKept: true, settingsDiffer: false };

describe('planApplication', () => {
  it('plans nothing where all is as desired', () => {
    const one = credential();
    const plan = planApplication({ ...base, desired: desired(one), state: serving(one, 3) });
    assert.deepEqual(plan, { transitions: [], steps: [] });
  });

  it('puts certificates in place before the settings that use them, and those before the daemon', () => {
    const { steps } = planApplication({
      ...base,
      foundKept: false,
      settingsDiffer: true,
      desired: desired(credential()),
      state: EMPTY_STATE,
    });
    assert.deepEqual(steps, [
      'keep-found',
      'request-libvirt',
      'await-certificates',
      'stage-libvirt',
      'verify-libvirt',
      'permit-reading',
      'install-libvirt',
      'link-libvirt',
      'switch-libvirt',
      'keep-settings',
      'write-settings',
      'await-migrations',
      'bring-daemon',
      'open-ports',
      'reload-libvirt',
      'prove-libvirt',
      'await-proof',
      'settle',
      'clean-libvirt',
    ]);
  });

  const cases: [string, Partial<DesiredCredential>, { request: boolean; to: number } | undefined][] = [
    ['a new revision asks for a certificate', { revision: 2 }, { request: true, to: 4 }],
    ['other names ask for a certificate', { names: { dns: ['b'], addresses: [] } }, { request: true, to: 4 }],
    ['another bundle keeps key and certificate', { bundle: '-----BEGIN B' }, { request: false, to: 4 }],
    ['retiring the found CA keeps key and certificate', { keepFoundTrust: false }, { request: false, to: 4 }],
    ['going back to what was found asks for nothing', { identity: 'found' }, { request: false, to: 4 }],
    ['the order of names means nothing', { names: { dns: ['a'], addresses: [] } }, undefined],
  ];
  for (const [title, change, expected] of cases) {
    it(title, () => {
      const state = serving(credential(), 3);
      const { transitions } = planApplication({ ...base, desired: desired(credential(change)), state });
      assert.deepEqual(
        transitions.map(({ request, to, from }) => ({ request, to, from })),
        expected === undefined ? [] : [{ ...expected, from: 3 }],
      );
    });
  }

  it('goes on with a request that waits for the same certificate', () => {
    const one = credential({ revision: 2 });
    const state = serving(credential(), 3);
    const [waiting] = planApplication({ ...base, desired: desired(one), state }).transitions;
    assert.ok(waiting);
    const again = { ...waiting, to: 7 };
    assert.deepEqual(
      planApplication({ ...base, waiting: [again], desired: desired(one), state }).transitions,
      [again],
    );
  });

  it('proves libvirt again, without the manager, where only settings change', () => {
    const one = credential();
    const { steps } = planApplication({
      ...base,
      settingsDiffer: true,
      desired: desired(one),
      state: serving(one, 3),
    });
    assert.deepEqual(steps, [
      'keep-settings',
      'write-settings',
      'await-migrations',
      'bring-daemon',
      'open-ports',
      'prove-libvirt',
      'settle',
    ]);
  });

  it('names only steps that there are', () => {
    fc.assert(
      fc.property(
        fc.boolean(),
        fc.boolean(),
        fc.subarray([...SERVICES]),
        (foundKept, settingsDiffer, services) => {
          const plan = planApplication({
            ...base,
            foundKept,
            settingsDiffer,
            desired: desired(...services.map((service) => credential({ service }))),
            state: EMPTY_STATE,
          });
          for (let at = 0; at < plan.steps.length; at++) {
            const back = planWayBack(journal(plan.steps, plan.transitions, at), foundKept);
            assert.equal(back.at(-1), 'back-settle');
            for (const name of [...plan.steps, ...back, ...planRemoval(services, settingsDiffer)]) {
              const step = parseStep(name);
              const table: Readonly<Record<string, unknown>> = STEPS[step.kind];
              assert.equal(typeof table[step.action], 'function', name);
            }
          }
        },
      ),
    );
  });
});

function journal(
  steps: readonly string[],
  transitions: Journal['transitions'] | readonly Journal['transitions'][number][],
  at: number,
): Journal {
  return { ...emptyJournal('applying'), transitions: [...transitions], steps: [...steps], at };
}

describe('planWayBack', () => {
  const plan = planApplication({
    ...base,
    foundKept: false,
    settingsDiffer: true,
    desired: desired(credential(), credential({ service: 'vnc' })),
    state: EMPTY_STATE,
  });
  const backFrom = (step: string, readsFound = true) =>
    planWayBack(journal(plan.steps, plan.transitions, plan.steps.indexOf(step)), readsFound);

  it('touches nothing where nothing was switched', () => {
    assert.deepEqual(backFrom('verify-vnc'), ['back-settle']);
  });

  it('takes back the links of services that were new', () => {
    assert.deepEqual(backFrom('link-vnc'), [
      'back-switch-libvirt',
      'back-switch-vnc',
      'back-links-vnc',
      'back-links-libvirt',
      'back-settle',
    ]);
  });

  it('brings the daemon back after QEMU directories are gone and before its own certificates go', () => {
    assert.deepEqual(backFrom('prove-vnc'), [
      'await-migrations',
      'back-settings',
      'back-switch-libvirt',
      'back-switch-vnc',
      'back-links-vnc',
      'back-daemon',
      'back-links-libvirt',
      'back-reload-libvirt',
      'back-reload-vnc',
      'back-ports',
      'back-settle',
    ]);
  });

  it('keeps the certificate of a daemon that listens until it listens no more, where none was found', () => {
    const back = backFrom('prove-vnc', false);
    assert.ok(back.indexOf('back-switch-libvirt') > back.indexOf('back-daemon'));
  });

  it('proves a former generation again', () => {
    const state = serving(credential(), 3);
    const next = planApplication({ ...base, desired: desired(credential({ revision: 2 })), state });
    const at = next.steps.indexOf('await-proof');
    assert.deepEqual(planWayBack(journal(next.steps, next.transitions, at), true), [
      'back-switch-libvirt',
      'back-reload-libvirt',
      'back-prove-libvirt',
      'back-settle',
    ]);
  });
});
