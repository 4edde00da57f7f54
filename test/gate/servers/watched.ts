/** The one resource of the modern test server that can be watched. */
export const watched = 'test://watched';
