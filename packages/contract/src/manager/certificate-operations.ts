import Type from 'typebox';
import { Authority } from '../model/authority.ts';
import { Certificate, IssueCertificate } from '../model/certificate.ts';
import { Name, Pem, SerialHex } from '../model/primitives.ts';
import { ByName, type ManagerOperation, Page, pageOf, strict } from './operation-parts.ts';

export const listCertificates = {
  id: 'listCertificates',
  summary: 'The certificates, newest first.',
  method: 'GET',
  path: '/api/v1/certificates',
  query: Type.Object({ ...Page.properties, host: Type.Optional(Name) }, strict),
  result: pageOf(Certificate),
  status: 200,
  access: 'auditor',
} as const satisfies ManagerOperation;

export const getCertificate = {
  id: 'getCertificate',
  summary: 'A certificate.',
  method: 'GET',
  path: '/api/v1/certificates/{serial}',
  params: Type.Object({ serial: SerialHex }, strict),
  result: Certificate,
  status: 200,
  access: 'auditor',
} as const satisfies ManagerOperation;

export const issueCertificate = {
  id: 'issueCertificate',
  summary: 'A certificate for a request of a host, for names and addresses that the host has.',
  method: 'POST',
  path: '/api/v1/certificates',
  body: IssueCertificate,
  result: Type.Object({ serialNumber: SerialHex, pem: Pem }, strict),
  status: 201,
  access: 'operator',
} as const satisfies ManagerOperation;

export const listAuthorities = {
  id: 'listAuthorities',
  summary: 'The authorities.',
  method: 'GET',
  path: '/api/v1/authorities',
  result: Type.Object({ items: Type.Array(Authority, { maxItems: 64 }) }, strict),
  status: 200,
  access: 'auditor',
} as const satisfies ManagerOperation;

export const getAuthority = {
  id: 'getAuthority',
  summary: 'An authority with its certificates.',
  method: 'GET',
  path: '/api/v1/authorities/{name}',
  params: ByName,
  result: Authority,
  status: 200,
  access: 'auditor',
} as const satisfies ManagerOperation;

export const CERTIFICATE_OPERATIONS = [
  listCertificates,
  getCertificate,
  issueCertificate,
  listAuthorities,
  getAuthority,
] as const satisfies readonly ManagerOperation[];
