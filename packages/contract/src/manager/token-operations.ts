import Type from 'typebox';
import { Role, Token } from '../model/access.ts';
import { Line, Name } from '../model/primitives.ts';
import { ById, type ManagerOperation, strict } from './operation-parts.ts';

export const listTokens = {
  id: 'listTokens',
  summary: 'The tokens, without their secrets.',
  method: 'GET',
  path: '/api/v1/tokens',
  result: Type.Object({ items: Type.Array(Token, { maxItems: 1000 }) }, strict),
  status: 200,
  access: 'administrator',
} as const satisfies ManagerOperation;

export const createToken = {
  id: 'createToken',
  summary: 'Makes a token; its secret is shown in this answer and never again.',
  method: 'POST',
  path: '/api/v1/tokens',
  body: Type.Object({ name: Name, role: Role }, strict),
  result: Type.Object({ token: Token, secret: Line }, strict),
  status: 201,
  access: 'administrator',
} as const satisfies ManagerOperation;

export const deleteToken = {
  id: 'deleteToken',
  summary: 'Takes a token away.',
  method: 'DELETE',
  path: '/api/v1/tokens/{id}',
  params: ById,
  result: Type.Unknown(),
  status: 204,
  access: 'administrator',
} as const satisfies ManagerOperation;

export const TOKEN_OPERATIONS = [
  listTokens,
  createToken,
  deleteToken,
] as const satisfies readonly ManagerOperation[];
