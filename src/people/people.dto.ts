import { ApiProperty } from '@nestjs/swagger';
import { GuestDto } from '../guests/guest.dto.js';

/** A guest as lists show it. */
export class ListedGuestDto extends GuestDto {
  @ApiProperty({ type: 'integer', minimum: 0 })
  sessionCount!: number;
}
