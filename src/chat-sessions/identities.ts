import { Injectable } from '@nestjs/common';
import { refused } from '../auth/token-refusal.js';
import { IdentityTokens, isIdentityToken, type Person } from '../auth/identity-tokens.js';

/** Who opens a session, where the route is for anybody. */
@Injectable()
export class Identities {
  constructor(private readonly tokens: IdentityTokens) {}

  /**
   * @param authorization the header; what is in it for somebody else is none of our business
   * @returns null where it holds no token for this chatbot
   * @throws AppError unauthorized where it holds one that is no good
   */
  async personIn(authorization: string | undefined, chatbotId: string): Promise<Person | null> {
    const bearer = /^Bearer +(\S+)$/i.exec(authorization ?? '')?.[1];
    if (bearer === undefined || !isIdentityToken(bearer, chatbotId)) return null;
    const verified = await this.tokens.verify(bearer, chatbotId);
    if ('refusal' in verified) throw refused(verified);
    return verified.person;
  }
}
