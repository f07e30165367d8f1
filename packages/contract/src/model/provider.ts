/** The kinds of CA that certificates come from. */
export const PROVIDERS = ['internal'] as const;
export type Provider = (typeof PROVIDERS)[number];
