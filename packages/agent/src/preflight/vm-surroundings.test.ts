import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type SurroundingsFacts, surroundingsFindings } from './surroundings-checks.ts';
import { vmNeedsOf } from './vm-needs.ts';

const domain = (devices: string, more = '') => `<domain type='kvm'>
  <name>guest</name><memory unit='MiB'>64</memory>${more}
  <os><type arch='x86_64' machine='pc'>hvm</type></os><devices>${devices}</devices>
</domain>`;

const GOOD: SurroundingsFacts = {
  filters: new Set(['clean-traffic']),
  listening: new Set([22, 5901]),
  isOwn: (address) => address === '192.0.2.2' || address === '127.0.0.1' || address === '2001:db8::2',
  directories: new Set(['/var/log']),
  freeHugePages: null,
};

const vnc = (more: string, inside = '') => `<graphics type='vnc' ${more}>${inside}</graphics>`;
const card = (filter: string) =>
  `<interface type='bridge'><source bridge='br0'/><filterref filter='${filter}'/></interface>`;
const serial = (path: string) => `<serial type='file'><source path='${path}'/></serial>`;
const HUGE = '<memoryBacking><hugepages/></memoryBacking>';
const twoSizes =
  "<memoryBacking><hugepages><page size='2' unit='M' nodeset='0'/><page size='1' unit='G' nodeset='1'/></hugepages></memoryBacking>";

describe('what surrounds a VM at its destination', () => {
  const cases: readonly (readonly [
    title: string,
    xml: string,
    facts: Partial<SurroundingsFacts>,
    expected: readonly string[],
  ])[] = [
    ['is nothing where it asks for nothing', domain(''), {}, []],
    ['has its network filter', domain(card('mine')), {}, ['filter.missing']],
    ['has its network filter, and takes it', domain(card('clean-traffic')), {}, []],
    ['has its fixed port free', domain(vnc("port='5901' autoport='no'")), {}, ['display.port_taken']],
    ['has its fixed port free, and takes it', domain(vnc("port='5902' autoport='no'")), {}, []],
    ['chooses a port of its own', domain(vnc("port='5901' autoport='yes'")), {}, []],
    ['is not asked for ports where nobody looked', domain(vnc("port='5901'")), { listening: null }, []],
    [
      'has the address that a display listens at',
      domain(
        vnc("port='-1' autoport='yes' listen='192.0.2.1'", "<listen type='address' address='192.0.2.1'/>"),
      ),
      {},
      ['display.address'],
    ],
    [
      'has it as the old attribute says it, too',
      domain(vnc("port='-1' autoport='yes' listen='2001:db8::1'")),
      {},
      ['display.address'],
    ],
    ...['192.0.2.2', '127.0.0.1', '0.0.0.0', '::', '2001:db8::2', 'display.example'].map(
      (address) =>
        [
          `takes a display at ${address}`,
          domain(vnc("autoport='yes'", `<listen type='address' address='${address}'/>`)),
          {},
          [],
        ] as const,
    ),
    [
      'chooses the address of a display on a network by itself',
      domain(
        vnc("autoport='yes' listen='192.0.2.1'", "<listen type='network' address='192.0.2.1' network='n'/>"),
      ),
      {},
      [],
    ],
    ['has the directory of its serial log', domain(serial('/srv/log/a')), {}, ['output.missing']],
    ['has the directory of its serial log, and writes', domain(serial('/var/log/a')), {}, []],
    ['has its huge pages', domain('', HUGE), { freeHugePages: 63 << 20 }, ['memory.huge_pages']],
    ['has its huge pages, and takes them', domain('', HUGE), { freeHugePages: 64 << 20 }, []],
    ['is not asked for huge pages where nobody looked', domain('', HUGE), {}, []],
  ];
  for (const [title, xml, facts, expected] of cases)
    it(title, () => {
      const found = surroundingsFindings(vmNeedsOf(xml), { ...GOOD, ...facts }, { own: 'b', peer: 'a' });
      assert.deepEqual(
        found.map(({ code }) => code),
        expected,
      );
      assert.ok(
        found.every(
          ({ severity, host, what, fix }) =>
            severity === 'error' && host === 'b' && what !== '' && fix !== '',
        ),
      );
    });

  it('knows huge pages of the default size and of one other, and no sum of several', () => {
    assert.deepEqual(vmNeedsOf(domain('', HUGE)).surroundings.hugePages, { pageBytes: null });
    const one = HUGE.replace('<hugepages/>', "<hugepages><page size='1' unit='G'/></hugepages>");
    assert.deepEqual(vmNeedsOf(domain('', one)).surroundings.hugePages, { pageBytes: 2 ** 30 });
    assert.equal(vmNeedsOf(domain('', twoSizes)).surroundings.hugePages, null);
  });
});
