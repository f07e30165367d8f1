import assert from 'node:assert/strict';
import { duplexPair } from 'node:stream';
import { describe, it } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import { domainGetState, domainLookupByName, RPC_PROGRAMS } from '@virt-trust/libvirt/migration-protocol.ts';
import { encodePacket, type RpcPacket, RpcPacketReader } from '@virt-trust/libvirt/rpc.ts';
import fc from 'fast-check';
import { FakeError, FakeLibvirt, VM } from './fixture-libvirt.ts';
import { RpcClient } from './rpc-client.ts';

const where = 'host-a';

describe('RpcClient', () => {
  it('makes several calls at once and gives each its own answer, whatever comes first', async () => {
    const libvirt = new FakeLibvirt([1, 1]);
    const first = Promise.withResolvers<void>();
    libvirt.answers['DOMAIN_LOOKUP_BY_NAME'] = async () => {
      await first.promise;
      return { domain: VM };
    };
    const client = await RpcClient.open(libvirt.connect(), { where });
    const looked = client.call(domainLookupByName, { name: 'vm' });
    assert.deepEqual(await client.call(domainGetState, { domain: VM, flags: 0 }), { state: 1, reason: 1 });
    first.resolve();
    assert.deepEqual((await looked).domain, VM);
    await client.close();
  });

  it("throws libvirt's words in full with its numbers", async () => {
    const libvirt = new FakeLibvirt([1, 1]);
    libvirt.answers['DOMAIN_GET_STATE'] = () => {
      throw new FakeError('first line\nsecond line', 38, 10);
    };
    const client = await RpcClient.open(libvirt.connect(), { where });
    await assert.rejects(client.call(domainGetState, { domain: VM, flags: 0 }), (error) => {
      assert.ok(isTrustError(error, 'libvirt.error'));
      assert.equal(error.message, 'first line\nsecond line');
      assert.deepEqual(error.context, { code: 38, domain: 10 });
      return true;
    });
    await client.close();
  });

  it('rejects every call that is under way when the connection is lost, and each one after', async () => {
    const libvirt = new FakeLibvirt([1, 1]);
    libvirt.answers['DOMAIN_GET_STATE'] = (_args, { cut }) => cut();
    const client = await RpcClient.open(libvirt.connect(), { where });
    const lost = { code: 'libvirt.lost' };
    await assert.rejects(client.call(domainGetState, { domain: VM, flags: 0 }), lost);
    await assert.rejects(client.call(domainGetState, { domain: VM, flags: 0 }), lost);
    assert.ok(client.isLost);
  });

  it('answers a PING, and notices a server that is silent', async () => {
    const [ours, theirs] = duplexPair();
    const reader = new RpcPacketReader();
    const seen: RpcPacket[] = [];
    const ponged = Promise.withResolvers<void>();
    theirs.on('data', (chunk: Uint8Array) => {
      for (const packet of reader.push(chunk)) {
        seen.push(packet);
        if (packet.program === RPC_PROGRAMS.keepalive) {
          if (packet.procedure === 2) ponged.resolve();
          continue;
        }
        // AUTH_LIST: one way, none; CONNECT_SUPPORTS_FEATURE: yes.
        const payload =
          packet.procedure === 66
            ? Buffer.from('0000000100000000', 'hex')
            : Buffer.from(packet.procedure === 60 ? '00000001' : '', 'hex');
        theirs.write(encodePacket({ ...packet, type: 1, payload }));
      }
    });
    const client = await RpcClient.open(ours, { where, keepaliveMs: 5 });
    const payload = new Uint8Array();
    const ping = { program: RPC_PROGRAMS.keepalive, version: 1, procedure: 1, type: 2, serial: 0, status: 0 };
    theirs.write(encodePacket({ ...ping, payload }));
    await ponged.promise;
    assert.match((await client.lost).message, /did not answer for/);
    assert.ok(seen.some(({ program, procedure }) => program === RPC_PROGRAMS.keepalive && procedure === 1));
  });

  it('ends the connection, and throws nothing else, whatever bytes come', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ minLength: 28, maxLength: 80 }), async (bytes) => {
        const [ours, theirs] = duplexPair();
        const opening = RpcClient.open(ours, { where });
        theirs.end(bytes);
        theirs.resume();
        await assert.rejects(opening, (error) => isTrustError(error));
      }),
      { numRuns: 30 },
    );
  });
});
