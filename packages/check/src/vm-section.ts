import type { Clock } from '@virt-trust/base/clock.ts';
import { THIS_HOST } from './host/host-root.ts';
import { readQemuProcesses } from './host/qemu-process.ts';
import type { CheckFinding } from './report.ts';
import { checkServedByVnc } from './served.ts';

/** More VMs are not asked: a check of a full host is to end soon. */
const MAX_ASKED = 64;

/** What the VNC servers of running VMs show; SPICE goes on with what it loaded at the VM's start. */
export async function checkServedByVms(clock: Clock): Promise<CheckFinding[]> {
  const processes = await readQemuProcesses(THIS_HOST).catch(() => []);
  const displays = processes.flatMap(({ uuid, name, vnc }) =>
    vnc.flatMap(({ listen, port, tlsDirectory }) =>
      tlsDirectory === null ? [] : [{ uuid, name, listen, port, directory: tlsDirectory }],
    ),
  );
  const findings: CheckFinding[] = [];
  for (const display of displays.slice(0, MAX_ASKED))
    findings.push(...(await checkServedByVnc(display, clock)));
  if (displays.length > MAX_ASKED) {
    findings.push({
      severity: 'note',
      code: 'served.not_asked',
      file: 'VNC',
      text: `of ${displays.length} VNC servers only ${MAX_ASKED} were asked what they show`,
      remedy: 'virt-trust probe vnc://HOST:PORT asks any other',
    });
  }
  return findings;
}
