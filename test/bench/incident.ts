export const runIncident: any = null; export const incidentText: any = null;
