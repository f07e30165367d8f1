import type { Host } from '../src/host.ts';

const LOOK = `
find /etc/pki /etc/libvirt /etc/apparmor.d/local -mindepth 1 \\( -name nwfilter -o -name qemu -o -name storage -o -name secrets \\) -path '/etc/libvirt/*' -prune -o -printf '%p %y %m %u:%g %l\\n' 2>/dev/null | sort
for file in $(find /etc/pki /etc/libvirt -maxdepth 3 -type f -size -200k 2>/dev/null | sort); do sha256sum "$file"; done
systemctl list-unit-files 'libvirtd*' --no-legend | tr -s ' ' | sort
systemctl is-active libvirtd-tls.socket libvirtd-tcp.socket
true`;

/** Everything on a host that virt-trust may touch, as text: equal before and after means nothing was changed. */
export function sightOf(host: Host): Promise<string> {
  return host.run(['sh', '-c', LOOK]);
}
