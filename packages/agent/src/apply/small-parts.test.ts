import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { instant } from '@virt-trust/base/instant.ts';
import fc from 'fast-check';
import { parseUnits } from '../services/daemon.ts';
import { failureOf } from '../sets/failure.ts';
import { withRules } from './lsm.ts';

describe('parseUnits', () => {
  it('reads what systemctl show prints of several units', () => {
    const text =
      'Id=libvirtd.service\nLoadState=loaded\nActiveState=active\nUnitFileState=enabled\n\n' +
      'Id=libvirtd-tls.socket\nLoadState=loaded\nActiveState=inactive\nUnitFileState=disabled\n\n' +
      'Id=virtproxyd.service\nLoadState=not-found\nActiveState=inactive\nUnitFileState=\n';
    const units = parseUnits(text);
    assert.deepEqual(units.get('libvirtd.service'), {
      loaded: true,
      active: true,
      enabled: true,
      masked: false,
    });
    assert.equal(units.get('libvirtd-tls.socket')?.active, false);
    assert.equal(units.get('virtproxyd.service')?.loaded, false);
  });

  it('takes any text', () => {
    fc.assert(fc.property(fc.string(), (text) => parseUnits(text).size >= 0));
  });
});

describe('withRules', () => {
  it('adds our rules once and takes only them back', () => {
    fc.assert(
      fc.property(fc.constantFrom('', '# mine\n', '/srv/** r,', 'a\n\nb\n'), (text) => {
        const rules = '# virt-trust: begin\n/x r,\n# virt-trust: end\n';
        const added = withRules(text, rules);
        assert.equal(withRules(added, rules), added);
        assert.equal(withRules(added, '').trimEnd(), text.trimEnd());
      }),
    );
  });
});

describe('failureOf', () => {
  it('names a full disk and a read-only file system, and says the way out', () => {
    for (const [code, expected] of [
      ['ENOSPC', 'host.disk_full'],
      ['EROFS', 'host.read_only'],
    ] as const) {
      const error = Object.assign(new Error(`${code}: cannot write /etc/x`), { code });
      const failure = failureOf(new Error('cannot link', { cause: error }), 'link-vnc', instant(0));
      assert.equal(failure.code, expected);
      assert.match(failure.message, /\/etc\/x/);
      assert.ok(failure.hint);
    }
  });
});
