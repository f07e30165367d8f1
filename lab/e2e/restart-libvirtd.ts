/**
 * Has a host's libvirtd start anew, as a shell command: systemd refuses the sixth start within ten seconds, which a story
 * on a fast machine comes to.
 */
export const RESTART_LIBVIRTD =
  '{ systemctl reset-failed libvirtd.service; systemctl restart libvirtd.service; }';
