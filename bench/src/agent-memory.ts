import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { type Memory, memoryOf } from './memory.ts';
import { add, onLab } from './on-lab.ts';
import type { Suite } from './suite.ts';

const IDLE_MS = 60_000;
const AIM_MB = 90;

/** The same Node with nothing loaded, which is the floor. */
async function measureBareNode(): Promise<Memory> {
  const child = spawn(process.execPath, ['-e', 'console.log("up"); setInterval(() => {}, 1e9)'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    await new Promise((resolve) => child.stdout.once('data', resolve));
    return memoryOf(await readFile(`/proc/${child.pid}/status`, 'utf8'));
  } finally {
    child.kill('SIGKILL');
  }
}

const megabytes = (value: number) => `${value.toFixed(1)} MB`;

/** What the agent takes on a host while nothing happens. */
export const agentMemorySuite: Suite = {
  name: 'agent-memory',
  title: 'Memory of the idle agent',
  async run(say) {
    const agent = await onLab({ name: 'bench-memory', hosts: ['bench-a'], say }, async (bed) => {
      const host = bed.lab.host('bench-a');
      await add(bed, host);
      say(`enrolled; idle for ${IDLE_MS / 1000} s`);
      await delay(IDLE_MS, undefined, { signal: bed.signal });
      const pid = await host.run(['systemctl', 'show', '--property=MainPID', '--value', 'virt-trust-agent']);
      return memoryOf(await host.readFile(`/proc/${pid.trim()}/status`));
    });
    const bare = await measureBareNode();
    const times = (value: number, floor: number) => `${(value / floor).toFixed(2)} times bare Node`;
    return {
      rows: [
        {
          what: 'agent, RssAnon',
          value: megabytes(agent.anonymous),
          ratio: `${(agent.anonymous / AIM_MB).toFixed(2)} of the ${AIM_MB} MB aimed at, ${times(agent.anonymous, bare.anonymous)}`,
        },
        { what: 'agent, RSS', value: megabytes(agent.resident), ratio: times(agent.resident, bare.resident) },
        { what: 'bare Node, RssAnon', value: megabytes(bare.anonymous), ratio: '1.00' },
        { what: 'bare Node, RSS', value: megabytes(bare.resident), ratio: '1.00' },
      ],
      notes: [
        `Of the service on a host of the lab, from the one executable, ${IDLE_MS / 1000} s after enrolment with its channel up. RSS counts the pages of the executable too, which the kernel drops when memory is short.`,
      ],
    };
  },
};
