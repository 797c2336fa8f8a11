import type { Database } from '../database/database.js';
import { notFound } from '../runtime/app-error.js';

/** @throws AppError not_found where there is no such chatbot, or it is another owner's */
export async function requireChatbot(database: Database, clerkUserId: string, id: string): Promise<void> {
  const chatbot = await database.read((db) =>
    db
      .selectFrom('chatbots')
      .select('id')
      .where('id', '=', id)
      .where('clerk_user_id', '=', clerkUserId)
      .executeTakeFirst(),
  );
  if (!chatbot) throw notFound();
}
