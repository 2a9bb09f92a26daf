// Package catalog keeps the records of an agent: its volumes, types, services and attachments, the migrations that it
// leads, and its guests. A Store keeps them by table and key; Table gives typed access; Bolt is the store in one file.
//
// A record is durable when Update returns, and no View shows one that is not. What is read in a View or an Update is
// one state of all tables, so a decision and its conditions belong into one Update.
package catalog
