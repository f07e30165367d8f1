/**
 * Has a host's libvirtd start anew, as a shell command: systemd refuses the sixth start within ten seconds, which a story
 * on a fast machine comes to.
 */
export const RESTART_LIBVIRTD =
  '{ systemctl reset-failed libvirtd.service; systemctl restart libvirtd.service; }';

/**
 * Has libvirtd's TLS socket listen where it does not, as a shell script: systemd starts a socket only while its service
 * is stopped, and any client of another socket starts that.
 */
export const START_TLS_SOCKET = `systemctl is-active --quiet libvirtd-tls.socket && exit
for n in $(seq 20); do
  systemctl stop libvirtd.service; systemctl reset-failed libvirtd.service libvirtd-tls.socket
  systemctl start libvirtd-tls.socket && exit
done
exit 1`;

/**
 * Has libvirtd start anew with the sockets that are active, as a shell script, after one of them was given other addresses.
 * While `libvirtd.socket` is off no client starts the daemon in between, and started together they come before it.
 */
export const RESTART_WITH_SOCKETS = `sockets=$(systemctl list-units --plain --no-legend --state=active 'libvirtd*.socket' | awk '{ print $1 }')
systemctl daemon-reload; systemctl stop libvirtd.service libvirtd.socket
systemctl reset-failed libvirtd.service; systemctl start $sockets libvirtd.service`;
