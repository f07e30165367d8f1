/** The version of virt-trust: one for all its parts. */
export const VERSION = '0.1.0';
